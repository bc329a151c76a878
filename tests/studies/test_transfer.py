"""The transfer study on small voices: cells differ where their settings do, speakers stay apart, figures add up."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from dino_speech import FineTuneStage, build_encoder, evaluate_verification, load_encoder, read_manifest, read_trials
from dino_speech.data.utterances import Manifest
from dino_speech.errors import InputError
from dino_speech.metrics import eer
from dino_speech.models.encoder import SpeechEncoder
from dino_speech.studies.pictures import plot_grid, row_name
from dino_speech.studies.transfer import TransferStudy

QUICK = {"batch_size": 8, "num_workers": 0}


@pytest.fixture
def encoder_folder(tmp_path: Path) -> str:
    encoder = build_encoder("ecapa_tdnn", channels=16, embedding_dim=16, statistics_shortcut=True, seed=3)
    return str(encoder.eval().save(tmp_path / "encoder"))


def study(encoder_folder: str, **options: object) -> TransferStudy:
    given = {
        "systems": {"pretrained": encoder_folder, "none": f"untrained:{encoder_folder}"},
        "strategies": {
            "one-shot": [FineTuneStage("all", steps=2, chunk_s=0.5)],
            "staged": [FineTuneStage("affine", steps=1, chunk_s=0.5), FineTuneStage("all", steps=1, chunk_s=0.5)],
        },
        "label": "emotion",
        "num_folds": 2,
        "tuner": QUICK,
    } | options
    return TransferStudy(**given)  # type: ignore[arg-type]


@pytest.mark.slow
def test_classes_in_folds(voices_folder: Path, encoder_folder: str, tmp_path: Path) -> None:
    made = study(encoder_folder)
    table = made.run(voices_folder / "manifest.csv", output_folder=tmp_path / "out", seeds=[1])
    assert [tuple(row.settings.values())[:2] for row in table.rows] == [
        ("pretrained", "one-shot"),
        ("pretrained", "staged"),
        ("none", "one-shot"),
        ("none", "staged"),
    ]
    for row in table.rows:
        figures = row.results[0].figures
        assert set(figures) == {"uar", "micro_f1", "macro_f1"}
        assert figures["uar"] * 16 == pytest.approx(round(figures["uar"] * 16))  # 8 utterances of each class, each once
    assert not list((tmp_path / "out").rglob("*.safetensors"))
    picture = plot_grid(table, tmp_path / "uar.png", figure="uar", over="strategy")
    assert picture.stat().st_size > 1000


@pytest.mark.slow
def test_a_split_by_a_column_and_another_corpus(voices_folder: Path, encoder_folder: str, tmp_path: Path) -> None:
    lines = (voices_folder / "manifest.csv").read_text().splitlines()
    split = [f"{line},{'train' if line[:4] in ('spk0', 'spk1') else 'test'}" for line in lines[1:]]
    path = voices_folder / "split.csv"
    path.write_text("\n".join([f"{lines[0]},split", *split]) + "\n")
    made = study(encoder_folder, split_column="split", strategies={"head": [FineTuneStage("head", steps=2)]})
    strangers = read_manifest(path).select(split="test")
    table = made.run(path, output_folder=tmp_path / "out", seeds=[1, 2], others={"again": strangers})
    assert "uar_again" in table.figures
    assert table.rows[0].seeds == [1, 2]
    with pytest.raises(InputError, match=r"2 speakers are on both sides of the split \(spk0, spk1\)"):
        made.run(path, output_folder=tmp_path / "leak", others={"again": path})
    angry = Manifest([replace(row, labels={**row.labels, "emotion": "angry"}) for row in strangers])
    with pytest.raises(InputError, match="holds 'angry', which the training set lacks"):
        made.run(path, output_folder=tmp_path / "leak", others={"again": angry})
    assert not (tmp_path / "leak").exists()


def test_speakers_on_both_sides_are_refused(voices_folder: Path, encoder_folder: str, tmp_path: Path) -> None:
    lines = (voices_folder / "manifest.csv").read_text().splitlines()
    path = voices_folder / "leak.csv"
    path.write_text(
        "\n".join(
            [f"{lines[0]},split", *(f"{line},{'train' if i % 2 else 'test'}" for i, line in enumerate(lines[1:]))]
        )
    )
    with pytest.raises(InputError, match=r"both sides of the split \(spk0"):
        study(encoder_folder, split_column="split").run(path, output_folder=tmp_path / "out", seeds=[1])
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_verification_with_an_encoder_as_it_is_and_tuned(
    voices_folder: Path, encoder_folder: str, tmp_path: Path
) -> None:
    manifest = read_manifest(voices_folder / "manifest.csv")
    train, test = manifest.select(speaker=["spk0", "spk1"]), manifest.select(speaker=["spk2", "spk3"])
    trials = tmp_path / "trials.txt"
    ids = [utterance.id for utterance in test]
    pairs = [(a, b) for number, a in enumerate(ids) for b in ids[number + 1 :]]
    trials.write_text("".join(f"{int(a[:4] == b[:4])} {a} {b}\n" for a, b in pairs))
    made = study(
        encoder_folder,
        label="speaker",
        objective="aam_softmax",
        strategies={"frozen": [], "one-shot": [FineTuneStage("all", steps=2, chunk_s=0.5)]},
    )
    table = made.run(train, output_folder=tmp_path / "out", seeds=[1], trials=read_trials(trials), trials_manifest=test)
    assert set(table.figures) == {"eer", "min_dcf"}
    assert [row.settings["strategy"] for row in table.rows] == ["frozen", "one-shot"] * 2
    assert (tmp_path / "out" / "det.png").stat().st_size > 1000
    assert row_name(table, table.rows[1]) == "pretrained, one-shot"
    (kept,) = (tmp_path / "out" / "cells").glob("none_one-shot_*/scores.npz")
    with np.load(kept) as arrays:
        assert eer(arrays["scores_0"], arrays["labels_0"]) == table.rows[3].results[0].figures["eer"]
    alone = evaluate_verification(load_encoder(encoder_folder), test, read_trials(trials))
    assert table.rows[0].results[0].figures == {"eer": alone.eer, "min_dcf": alone.min_dcf}
    assert not list((tmp_path / "out").rglob("*.safetensors"))
    with pytest.raises(InputError, match="there are eer, min_dcf"):
        plot_grid(table, tmp_path / "x.png", figure="uar")


@pytest.mark.slow
def test_back_ends_learn_from_the_training_speakers(voices_folder: Path, encoder_folder: str, tmp_path: Path) -> None:
    manifest = read_manifest(voices_folder / "manifest.csv")
    train, test = manifest.select(speaker=["spk0", "spk1"]), manifest.select(speaker=["spk2", "spk3"])
    (tmp_path / "trials.txt").write_text("\n".join(pairs([utterance.id for utterance in test])) + "\n")
    trials = read_trials(tmp_path / "trials.txt")
    given = {"label": "speaker", "strategies": {"frozen": []}, "systems": {"pretrained": encoder_folder}}
    made = study(encoder_folder, **given, backends=["cosine", "plda", "cosine+as"])
    options: dict = {"seeds": [1], "trials": {"v": trials}, "trials_manifest": test}
    found = made.run(train, output_folder=tmp_path / "out", **options).rows[0].results[0].figures
    assert set(found) == {f"{name}_v{end}" for name in ("eer", "min_dcf") for end in ("", "_plda", "_cosine_as")}
    encoder = load_encoder(encoder_folder)
    plda = evaluate_verification(encoder, test, trials, backend="plda", train=train)
    norm = evaluate_verification(encoder, test, trials, score_norm="as", train=train)
    assert (found["eer_v_plda"], found["eer_v_cosine_as"]) == (plda.eer, norm.eer)
    assert (tmp_path / "out" / "det_v_plda.png").exists()
    for wrong, message in (
        (["plada"], "backend is 'plada'"),
        (["plda+a"], "score_norm is 'a'"),
        ([], "backends is empty"),
    ):
        with pytest.raises(InputError, match=message):
            study(encoder_folder, **given, backends=wrong).run(train, output_folder=tmp_path / "no", **options)


def pairs(ids: list[str]) -> list[str]:
    lines = [f"{int(a[:4] == b[:4])} {a} {b}" for number, a in enumerate(ids) for b in ids[number + 1 :]]
    return lines


@pytest.mark.slow
def test_several_lists_of_trials_hear_each_utterance_once(
    voices_folder: Path, encoder_folder: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    manifest = read_manifest(voices_folder / "manifest.csv")
    train, test = manifest.select(speaker=["spk0", "spk1"]), manifest.select(speaker=["spk2", "spk3"])
    ids = [utterance.id for utterance in test]
    lists = {}
    for name, part in {"all": ids, "some": ids[:2] + ids[-2:]}.items():
        (tmp_path / f"{name}.txt").write_text("\n".join(pairs(part)) + "\n")
        lists[name] = read_trials(tmp_path / f"{name}.txt")
    heard: list[str] = []
    embed = SpeechEncoder.embed_files

    def listen(self: SpeechEncoder, items: list, **options: object) -> object:
        heard.extend(item.wav for item in items)
        return embed(self, items, **options)

    monkeypatch.setattr(SpeechEncoder, "embed_files", listen)
    made = study(encoder_folder, systems={"pretrained": encoder_folder}, label="speaker", strategies={"frozen": []})
    given = {"all": lists["all"], "some": (lists["some"], voices_folder / "manifest.csv")}
    table = made.run(
        train, output_folder=tmp_path / "out", seeds=[1], trials=given, trials_manifest=test, group_by="emotion"
    )
    assert sorted(heard) == sorted(utterance.wav for utterance in test)
    groups = ["eer_all_happy", "eer_all_neutral"]  # "some" has no two utterances of a speaker with one emotion
    assert {path.name for path in (tmp_path / "out").glob("*.png")} == {"det_all.png", "det_some.png"}
    assert table.figures == ["eer_all", "min_dcf_all", *groups, "eer_some", "min_dcf_some"]
    found, alone = table.rows[0].results[0], load_encoder(encoder_folder)
    for name, trials in lists.items():
        report = evaluate_verification(alone, test, trials)
        assert found.figures[f"eer_{name}"] == pytest.approx(report.eer)
        assert not report.min_dcf_interval.is_known, "of two speakers there is no interval"
        assert f"min_dcf_{name}" not in found.intervals
    happy = test.select(emotion="happy")
    inside = lists["all"].subset(
        [i for i in range(len(lists["all"])) if {lists["all"].enroll[i], lists["all"].test[i]} <= set(happy.by_id())]
    )
    assert found.figures["eer_all_happy"] == pytest.approx(evaluate_verification(alone, happy, inside).eer)
    again = made.run(train, output_folder=tmp_path / "out", seeds=[1], trials=given, trials_manifest=test)
    assert "eer_all_happy" not in again.figures  # another question is another cell


def test_trials_that_cannot_be_judged_are_refused_before_anything_is_trained(
    voices_folder: Path, encoder_folder: str, tmp_path: Path
) -> None:
    manifest = read_manifest(voices_folder / "manifest.csv")
    train = manifest.select(speaker=["spk0", "spk1", "spk2"])
    (tmp_path / "trials.txt").write_text("\n".join(pairs([row.id for row in manifest][8:])) + "\n")
    trials, made = read_trials(tmp_path / "trials.txt"), study(encoder_folder, label="speaker")
    given = {"output_folder": tmp_path / "out", "trials_manifest": manifest}
    with pytest.raises(InputError, match="1 speakers also stand in the trials \\(spk2\\)"):
        made.run(train, trials=trials, **given)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="no column 'source'"):
        made.run(train, trials=trials, group_by="source", **given)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="trials is empty"):
        made.run(train, trials={}, **given)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="expected targets"):
        made.run(train, trials=trials.subset([0]), **given)  # type: ignore[arg-type]
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_a_cell_depends_on_its_own_system_and_stages_alone(
    voices_folder: Path, encoder_folder: str, tmp_path: Path
) -> None:
    quick = {"head": [FineTuneStage("head", steps=1)]}

    def finished(**options: object) -> set[Path]:
        made = study(encoder_folder, strategies=quick, **options)
        made.run(voices_folder / "manifest.csv", output_folder=tmp_path / "out", seeds=[1])
        return set((tmp_path / "out").rglob("result.json"))

    first = finished(systems={"pretrained": encoder_folder})
    times = {path: path.stat().st_mtime_ns for path in first}
    more = finished()  # one more system
    assert len(more) == 2
    assert first < more
    assert {path: path.stat().st_mtime_ns for path in first} == times
    encoder = load_encoder(encoder_folder)
    with torch.no_grad():
        next(encoder.parameters()).add_(0.1)
    encoder.save(encoder_folder)  # trained again, to the same path
    assert len(finished(systems={"pretrained": encoder_folder}) - more) == 1


def test_other_corpora_need_one_training(voices_folder: Path, encoder_folder: str, tmp_path: Path) -> None:
    path = voices_folder / "manifest.csv"
    with pytest.raises(InputError, match="give split_column"):
        study(encoder_folder).run(path, output_folder=tmp_path, others={"again": path})


def test_a_column_of_speakers_with_another_name_is_the_one_that_is_checked(
    voices_folder: Path, encoder_folder: str, tmp_path: Path
) -> None:
    """In another corpus, too, and in trials."""
    rows = list(read_manifest(voices_folder / "manifest.csv"))
    called = [
        replace(row, labels={"emotion": row.labels["emotion"], "person": row.labels["speaker"], "split": split})
        for row, split in zip(rows, ["train"] * 8 + ["test"] * 8, strict=True)
    ]
    manifest = Manifest(called)
    given = {"output_folder": tmp_path / "out", "seeds": [1]}
    made = study(encoder_folder, speaker="person", split_column="split")
    twin = tmp_path / "twin.wav"
    twin.write_bytes(Path(called[0].wav).read_bytes())
    known = [replace(called[0], wav=str(twin)), *called[9:]]
    with pytest.raises(InputError, match=r"both sides of the split \(spk0\)"):
        made.run(manifest, others={"again": Manifest(known)}, **given)  # type: ignore[arg-type]
    part = replace(called[0], id="part", start=100, stop=9000, labels={**called[0].labels, "person": "other"})
    with pytest.raises(InputError, match=r"1 recordings of .* whole or in part"):
        made.run(manifest, others={"again": Manifest([part, *called[9:]])}, **given)  # type: ignore[arg-type]
    (tmp_path / "trials.txt").write_text("\n".join(pairs([row.id for row in called][8:])) + "\n")
    tuned = study(encoder_folder, label="person", speaker="person")
    with pytest.raises(InputError, match="1 speakers also stand in the trials \\(spk2\\)"):
        tuned.run(manifest[:12], trials=read_trials(tmp_path / "trials.txt"), trials_manifest=manifest, **given)  # type: ignore[arg-type]
