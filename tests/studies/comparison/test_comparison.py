"""Encoders side by side: the whole path, with the very figures of the evaluations; resumed; mistakes refused."""

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from dino_speech.cli.main import main
from dino_speech.data.manifest import Manifest, read_manifest
from dino_speech.data.trials import read_trials
from dino_speech.errors import InputError
from dino_speech.evaluation.probing.classification import evaluate_classification
from dino_speech.evaluation.probing.regression import evaluate_regression
from dino_speech.evaluation.stress.efficiency import measure_efficiency
from dino_speech.evaluation.stress.fairness import evaluate_fairness
from dino_speech.evaluation.stress.robustness import evaluate_robustness
from dino_speech.evaluation.verification.evaluate import evaluate_verification
from dino_speech.models.checkpoint import load_encoder
from dino_speech.models.encoder import SpeechEncoder
from dino_speech.models.registry import build_encoder
from dino_speech.studies.comparison import report as comparison_report
from dino_speech.studies.comparison.compare import QUICK, EncoderComparison, compare_encoders

SIZES: dict[str, dict[str, Any]] = {
    "ecapa_tdnn": {"channels": 16, "attention_channels": 8, "se_channels": 8},
    "xvector": {"channels": [16] * 5},
}
WAV2VEC2 = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 48}
WAV2VEC2 |= {"conv_dim": [16] * 7, "num_conv_pos_embeddings": 16, "num_conv_pos_embedding_groups": 4}
QUICKLY: dict[str, Any] = {
    "num_resamples": 30,
    "seconds": 0.5,
    "num_rounds": 1,
    "num_threads": 1,
    "num_folds": 2,
    "seed": 1,
}


@pytest.fixture(autouse=True)
def _no_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    """They take as long as all else here."""
    monkeypatch.setattr(comparison_report, "has_matplotlib", lambda: False)


@pytest.fixture
def folders(tmp_path: Path) -> list[str]:
    """`<name>/encoder` of a DINO-style ECAPA and of an x-vector, and the floor."""
    for name, options in SIZES.items():
        build_encoder(name, embedding_dim=8, seed=1, **options).save(tmp_path / name / "encoder")
    return [*(str(tmp_path / name / "encoder") for name in SIZES), "fbank_stats"]


@pytest.fixture
def labelled(tmp_path: Path) -> Path:
    """6 speakers x 4 files of 0.8 s; hiss tells the emotion and is a number; `m/trials.txt`."""
    folder, rng = tmp_path / "m", np.random.default_rng(0)
    folder.mkdir()
    rows, time = ["ID,duration,wav,speaker,emotion,sex,hiss,level"], np.arange(12_800) / 16_000
    for speaker in range(6):
        for number in range(4):
            hiss_db = -24 + 8 * number + float(rng.uniform(-1, 1))
            voice = sum(np.sin(2 * np.pi * (100 + 20 * speaker) * k * time) / k for k in range(1, 9))
            wave = voice * (1.2 + np.sin(30 * time)) + 10 ** (hiss_db / 20) * rng.standard_normal(time.size)
            soundfile.write(folder / f"s{speaker}_{number}.wav", (0.05 * wave).astype(np.float32), 16_000)
            emotion = "calm" if number < 2 else "tense"
            cells = f"s{speaker},{emotion},{'FM'[speaker % 2]},{hiss_db:.3f},{rng.uniform():.3f}"
            rows.append(f"s{speaker}_{number},0.8,s{speaker}_{number}.wav,{cells}")
    names = [f"s{speaker}_{number}" for speaker in range(6) for number in range(4)]
    pairs = [(a, b) for a in names for b in names if a < b]
    (folder / "trials.txt").write_text("".join(f"{int(a[:2] == b[:2])} {a} {b}\n" for a, b in pairs))
    (folder / "manifest.csv").write_text("\n".join(rows) + "\n")
    return folder / "manifest.csv"


@pytest.fixture
def embedded(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str, bool]]:
    """What is embedded from now on: (encoder, ID, whether changed), in order."""
    found: list[tuple[str, str, bool]] = []
    original = SpeechEncoder.embed_files

    def note(self: SpeechEncoder, items: Any, *, transform: Any = None, **options: Any) -> Any:
        found.extend((self.config.name, item.id, transform is not None) for item in items)
        return original(self, items, transform=transform, **options)

    monkeypatch.setattr(SpeechEncoder, "embed_files", note)
    return found


def compare(systems: Any, manifest: Manifest | Path, folder: Path, **options: Any) -> EncoderComparison:
    return compare_encoders(systems, manifest, output_folder=folder, **{**QUICKLY, **options})


@pytest.mark.slow
def test_the_command_makes_the_whole_table(
    folders: list[str],
    labelled: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(comparison_report, "has_matplotlib", lambda: True)
    pytest.importorskip("transformers", reason="needs the extra dino-speech[ssl]")
    frame_level = build_encoder("wav2vec2", config=WAV2VEC2, seed=0)
    frame_level.save(tmp_path / "w2v" / "encoder")
    words = ["compare", "--encoder", *folders[:2], f"frames={tmp_path / 'w2v'}", "fbank_stats"]
    words += ["--manifest", str(labelled), "--label", "emotion", "--trials", str(labelled.with_name("trials.txt"))]
    words += ["--group", "sex", "--output", str(tmp_path / "out"), "--perturbations", "gain_-20db,tone"]
    words += ["--num-folds", "2", "--seconds", "0.5", "--threads", "1", "--device", "cpu", "--num-resamples", "30"]
    capsys.readouterr()
    assert main([*words, "--json"]) == 0
    found = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert [row["system"] for row in found["rows"]] == ["ecapa_tdnn", "xvector", "frames", "fbank_stats"]
    assert found["floor"] == "fbank_stats"
    assert found["conditions"] == ["gain_-20db", "tone_40db", "tone_20db"]
    floor = found["rows"][-1]
    assert floor["figures"]["uar"]["difference"] is None
    assert floor["robustness"]["uar"]["kinds"]["gain"] == {"unchanged": 1, "change": 0}
    for row in found["rows"]:
        assert set(row["figures"]) == set(row["robustness"]) == set(row["fairness"]) == {"uar", "eer"}
        assert set(row["fairness"]["uar"]["differences"]) == {"F - M"}
        assert row["efficiency"]["macs_per_s"] > 0
    table = (tmp_path / "out" / "table.md").read_text()
    for column in ("UAR - floor", "EER in %: unchanged %", "UAR: F - M", "deviation of speakers", "real-time factor"):
        assert column in table.splitlines()[0]
    with (tmp_path / "out" / "table.csv").open() as file:
        lines = list(csv.DictReader(file))
    assert float(lines[0]["uar"]) == found["rows"][0]["figures"]["uar"]["value"]
    assert float(lines[3]["uar_unchanged_gain"]) == 1
    assert lines[3]["uar_minus_floor"] == ""
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert set(report["results"]["details"]["frames"]["conditions"]) == set(found["conditions"])
    assert Path(found["plot"]).stat().st_size > 10_000
    monkeypatch.setattr(comparison_report, "has_matplotlib", lambda: False)
    assert main(words) == 0  # everything is kept: the table again, at once
    again = capsys.readouterr().out
    assert again.startswith(table)
    assert "pip install 'dino-speech[plots]'" in again
    assert not Path(found["plot"]).exists()


@pytest.mark.slow
def test_figures_are_those_of_the_evaluations(folders: list[str], labelled: Path, tmp_path: Path) -> None:
    manifest, trials = read_manifest(labelled), read_trials(labelled.with_name("trials.txt"))
    given = {"label": "emotion", "labels": ["hiss", "level"], "trials": trials}
    name = "white_noise_0db"
    found = compare({"ecapa": folders[0]}, manifest, tmp_path / "out", perturbations=[name], **given)
    assert [row["system"] for row in found.rows] == ["ecapa", "fbank_stats"]  # the floor is added
    row, encoder = found.rows[0], load_encoder(folders[0])
    options: dict[str, Any] = {"num_resamples": 30, "seed": 1}
    uar = evaluate_classification(encoder, manifest, label="emotion", num_folds=2, **options)
    ccc = evaluate_regression(encoder, manifest, labels=given["labels"], num_folds=2, **options)
    eer = evaluate_verification(encoder, manifest, trials, **options)
    figures = row["figures"]
    assert figures["uar"]["value"] == uar.uar
    assert figures["uar"]["interval"] == uar.intervals["uar"].to_dict()
    assert figures["ccc_hiss"]["value"] == pytest.approx(ccc.ccc["hiss"], abs=1e-6)
    assert figures["ccc_mean"]["value"] == pytest.approx(np.mean(list(ccc.ccc.values())), abs=1e-6)
    assert figures["eer"]["value"] == pytest.approx(eer.eer)
    assert figures["eer"]["interval"] == pytest.approx(eer.eer_interval.to_dict())
    tasks: list[tuple[str, dict[str, Any]]] = [("uar", {"label": "emotion"}), ("ccc", {"labels": given["labels"]})]
    for metric, task in [*tasks, ("eer", {"trials": trials})]:
        robust = evaluate_robustness(encoder, manifest, conditions=[name], num_folds=2, **task, **options)
        fair = evaluate_fairness(encoder, manifest, num_folds=2, **task, **options)
        for figure, change in robust.conditions[0].changes.items():
            own = figure if metric != "ccc" else f"ccc_{figure}"
            assert row["robustness"][own]["change"] == pytest.approx(change.change, abs=1e-6)
            assert row["robustness"][own]["unchanged"] == pytest.approx(change.unchanged)
            compared = fair.figures[figure].to_dict()
            assert row["fairness"][own]["differences"]["F - M"]["value"] == pytest.approx(
                compared["differences"]["F - M"]["value"], abs=1e-6
            )
            assert row["fairness"][own]["speakers"]["num_speakers"] == compared["speakers"]["num_speakers"]
    assert row["robustness"]["ccc_mean"]["change"] == pytest.approx(
        np.mean([row["robustness"][f"ccc_{label}"]["change"] for label in given["labels"]])
    )
    cost = measure_efficiency(encoder, seconds=0.5, num_rounds=1)
    assert row["efficiency"]["num_parameters"] == cost.num_parameters
    assert row["efficiency"]["macs_per_s"] == cost.macs_per_s


@pytest.mark.slow
def test_the_difference_from_the_floor_is_paired(folders: list[str], labelled: Path, tmp_path: Path) -> None:
    systems = {"one": "fbank_stats", "same": build_encoder("fbank_stats"), "other": folders[1]}
    found = compare(systems, labelled, tmp_path, label="emotion", floor="one", perturbations="none")
    same, other = (row["figures"]["uar"] for row in found.rows[1:])
    assert same["difference"] == 0
    assert (same["difference_interval"]["low"], same["difference_interval"]["high"]) == (0, 0)
    first = found.rows[0]["figures"]["uar"]["value"]
    assert other["difference"] == pytest.approx(other["value"] - first)
    assert other["difference_interval"]["low"] <= other["difference"] <= other["difference_interval"]["high"]
    assert found.rows[0]["robustness"] is None
    assert "unchanged" not in (tmp_path / "table.md").read_text()


@pytest.mark.slow
def test_each_utterance_is_embedded_once_per_condition_and_nothing_that_is_finished_is_done_again(
    folders: list[str], labelled: Path, tmp_path: Path, embedded: list[tuple[str, str, bool]]
) -> None:
    given: dict[str, Any] = {"label": "emotion", "trials": labelled.with_name("trials.txt")}
    first = compare(folders[:1], labelled, tmp_path / "out", perturbations=["tone"], **given)
    for name in ("ecapa_tdnn", "fbank_stats"):
        own = [(item, changed) for encoder, item, changed in embedded if encoder == name]
        assert sorted(own) == sorted(
            [(f"s{s}_{n}", c) for s in range(6) for n in range(4) for c in (False, True, True)]
        )
    embedded.clear()
    again = compare(folders[:1], labelled, tmp_path / "out", perturbations=["tone"], **given)
    assert not embedded
    assert again.rows == first.rows
    wider = compare(folders, labelled, tmp_path / "out", perturbations=["tone", "clipping_3%"], **given)
    assert {(name, changed) for name, _, changed in embedded} == {
        *(("xvector", changed) for changed in (False, True)),
        *((name, True) for name in ("ecapa_tdnn", "fbank_stats")),
    }
    assert len(embedded) == 24 * (1 + 3 + 1 + 1)
    assert wider.rows[0]["figures"] == first.rows[0]["figures"]
    embedded.clear()
    labelled.write_text(labelled.read_text().replace("s0,calm", "s0,tense"))
    other = compare(folders[:1], labelled, tmp_path / "out", perturbations="none", **given)
    assert not embedded  # the audio is the same, the predictions are not
    assert other.rows[0]["figures"]["uar"] != first.rows[0]["figures"]["uar"]
    compare(folders[:1], labelled, tmp_path / "out", perturbations="none", resume=False, **given)
    assert len(embedded) == 48


@pytest.mark.slow
def test_an_interrupted_comparison_goes_on(
    folders: list[str], labelled: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original, calls, stop_at = SpeechEncoder.embed_files, list[str](), 3

    def stop(self: SpeechEncoder, items: Any, **options: Any) -> Any:
        if len(calls) == stop_at:  # both encoders clean, and the first one's first condition
            raise KeyboardInterrupt
        calls.append(self.config.name)
        return original(self, items, **options)

    given: dict[str, Any] = {"label": "emotion", "perturbations": ["tone"]}
    monkeypatch.setattr(SpeechEncoder, "embed_files", stop)
    with pytest.raises(KeyboardInterrupt):
        compare(folders[:1], labelled, tmp_path / "out", **given)
    stop_at = 100
    found = compare(folders[:1], labelled, tmp_path / "out", **given)
    assert calls == ["ecapa_tdnn", "fbank_stats", "ecapa_tdnn", "ecapa_tdnn", "fbank_stats", "fbank_stats"]
    anew = compare(folders[:1], labelled, tmp_path / "anew", **given)
    for row, other in zip(found.rows, anew.rows, strict=True):
        assert {**row, "efficiency": 0} == {**other, "efficiency": 0}


@pytest.mark.slow
def test_what_one_encoder_cannot_embed_counts_for_none(folders: list[str], labelled: Path, tmp_path: Path) -> None:
    wave, rate = soundfile.read(labelled.with_name("s0_0.wav"))
    soundfile.write(labelled.with_name("s0_0.wav"), wave[:1700], rate)  # the x-vector needs 15 frames
    (labelled.with_name("s1_1.wav")).write_bytes(b"no wav")
    encoders = {name: load_encoder(name) for name in folders}
    long_sighted = encoders[folders[1]]
    long_sighted.min_frames = 40
    given: dict[str, Any] = {"label": "emotion", "perturbations": ["excerpt", "tone_40db"]}
    found = compare({"x": long_sighted, "e": encoders[folders[0]]}, labelled, tmp_path / "out", **given)
    assert sorted(item.name for item in found.skipped) == ["s0_0", "s1_1"]
    assert found.skipped[0].reason.startswith("x: ")
    for detail in found.details.values():
        assert detail["reports"]["label"]["num_utterances"] == 22
    assert "22 utterances of 6 speakers, the same ones and the same 2 folds" in found.notes[1]
    # Half an utterance is too short for the x-vector: so its mean, and that of all others, is without that condition.
    assert found.conditions == ["tone_40db"]
    assert "condition excerpt_50%" in found.notes[-2]
    assert all(list(row["robustness"]["uar"]["kinds"]) == ["tone"] for row in found.rows)


def test_columns_of_groups_are_blank_where_there_are_none(labelled: Path, tmp_path: Path) -> None:
    lines = [line.split(",") for line in labelled.read_text().splitlines()]
    labelled.write_text("".join(",".join(cells[:5] + cells[6:]) + "\n" for cells in lines))  # without `sex`
    given: dict[str, Any] = {"label": "emotion", "perturbations": "none", "min_items": 4}
    found = compare(["fbank_stats"], labelled, tmp_path / "out", **given)
    assert found.rows[0]["fairness"]["uar"]["differences"] == {}
    assert found.rows[0]["fairness"]["uar"]["speakers"]["num_speakers"] == 6
    assert any("No groups are compared" in note for note in found.notes)
    with pytest.raises(InputError, match="no column 'sex'"):
        compare(["fbank_stats"], labelled, tmp_path / "out", group="sex", **given)
    lines = labelled.read_text().splitlines()
    labelled.write_text("".join(f"{line},{'room' if i == 0 else 'hall'}\n" for i, line in enumerate(lines)))
    with pytest.raises(InputError, match="column 'room' names hall; at least two"):
        compare(["fbank_stats"], labelled, tmp_path / "out", group="room", **given)


@pytest.mark.slow
def test_trials_of_people_who_are_not_named(folders: list[str], labelled: Path, tmp_path: Path) -> None:
    lines = [line.split(",") for line in labelled.read_text().splitlines()]
    labelled.write_text("".join(",".join(cells[:3]) + "\n" for cells in lines))
    found = compare(
        ["fbank_stats", folders[1]],
        labelled,
        tmp_path / "out",
        trials=labelled.with_name("trials.txt"),
        perturbations=["gain_-20db"],
    )
    assert [set(row["figures"]) for row in found.rows] == [{"eer"}] * 2
    assert [row["fairness"] for row in found.rows] == [{}, {}]
    assert found.rows[1]["figures"]["eer"]["difference_interval"]["low"] is not None
    assert "trials resampled" in found.notes[1]


def test_mistakes_are_named_before_anything_is_embedded(
    folders: list[str], labelled: Path, tmp_path: Path, embedded: list[tuple[str, str, bool]]
) -> None:
    cases: list[tuple[Any, dict[str, Any], str]] = [
        (["a=fbank_stats", "a=random:xvector"], {"label": "emotion"}, "two systems are called 'a'"),
        (["fbank_stats", "fbank_stats"], {"label": "emotion"}, "given twice"),
        ([str(tmp_path / "nowhere")], {"label": "emotion"}, "nowhere: no such folder"),
        (["fbank_stats"], {}, "nothing to compare by"),
        (["fbank_stats"], {"label": "mood"}, "no column 'mood'"),
        (["fbank_stats"], {"labels": ["hiss", "hiss"]}, "expected different columns"),
        (["fbank_stats"], {"labels": ["emotion"]}, "emotion"),
        (["fbank_stats"], {"label": "emotion", "num_folds": 9}, "9"),
        (["fbank_stats"], {"label": "emotion", "group": "age"}, "no column 'age'"),
        (["fbank_stats"], {"label": "emotion", "floor": "ecapa"}, "the floor 'ecapa' is none of the systems"),
        (["fbank_stats"], {"label": "emotion", "perturbations": ["rain"]}, "no condition or kind is called 'rain'"),
        (["fbank_stats"], {"label": "emotion", "perturbations": "some"}, "expected all, quick, none"),
        ([], {"label": "emotion"}, "expected a list of encoders"),
    ]
    for systems, options, message in cases:
        with pytest.raises(InputError, match=message):
            compare(systems, labelled, tmp_path / "out", **options)
    assert not embedded


@pytest.mark.slow
def test_quick_is_a_few_known_conditions(labelled: Path, tmp_path: Path) -> None:
    found = compare(["fbank_stats"], labelled, tmp_path, label="emotion", perturbations="quick")
    assert sorted(found.conditions) == sorted(QUICK)
