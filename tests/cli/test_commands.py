"""Each command on small real files: what it answers, in JSON and as text."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pytest
import soundfile

from dino_speech.cli.main import main
from dino_speech.data.manifest import read_manifest
from dino_speech.data.trials import read_trials, resolve
from dino_speech.embedding.parts_on_disk import read_embeddings

Run = Callable[..., dict[str, Any]]
Tone = Callable[..., np.ndarray]
Tiny = Callable[[Path], list[str]]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    """`run("check", folder)` gives the JSON of the last line, with `exit_code` and `stderr` added."""

    def call(*words: object) -> dict[str, Any]:
        capsys.readouterr()
        exit_code = main([*map(str, words), "--json"])
        captured = capsys.readouterr()
        return {**json.loads(captured.out.splitlines()[-1]), "exit_code": exit_code, "stderr": captured.err}

    return call


@pytest.fixture
def bad_folder(tmp_path: Path, tone: Tone) -> Path:
    """One good file, one 8 kHz stereo file, and one of each bad kind."""
    folder = tmp_path / "bad"
    folder.mkdir()
    soundfile.write(folder / "good.wav", tone(1.5), 16_000)
    soundfile.write(folder / "stereo.wav", np.stack([tone(1.5, sample_rate=8_000)] * 2, axis=1), 8_000)
    soundfile.write(folder / "short.wav", tone(0.2), 16_000)
    soundfile.write(folder / "silent.wav", np.zeros(16_000), 16_000)
    soundfile.write(folder / "nan.wav", np.full(16_000, np.nan, dtype=np.float32), 16_000, subtype="FLOAT")
    (folder / "empty.wav").write_bytes(b"")
    (folder / "corrupt.flac").write_bytes(b"fLaC" + bytes(100))
    return folder


def test_check(run: Run, bad_folder: Path) -> None:
    found = run("check", bad_folder)
    assert found["exit_code"] == 0
    assert (found["num_files"], found["num_usable"], found["num_unusable"]) == (7, 2, 5)
    verdicts = {item["name"]: item["verdict"] for item in found["unusable"]}
    assert verdicts == {
        "short.wav": "short",
        "silent.wav": "silent",
        "nan.wav": "non_finite",
        "empty.wav": "unreadable",
        "corrupt.flac": "unreadable",
    }
    assert found["counts"] == {"short": 1, "silent": 1, "non_finite": 1, "unreadable": 2}
    assert run("check", bad_folder, "--min-s", "0.1")["num_usable"] == 3


def test_check_of_a_manifest_compares_durations_and_spans(run: Run, bad_folder: Path) -> None:
    rows = "ID,duration,wav,start,stop\na,1.5,good.wav,,\nb,9.0,good.wav,,\nc,1.0,good.wav,0,99999\nd,1,gone.wav,,\n"
    (bad_folder / "m.csv").write_text(rows)
    found = run("check", bad_folder / "m.csv")
    assert [(item["name"], item["verdict"]) for item in found["remarks"]] == [("b", "duration"), ("c", "span")]
    assert [item["name"] for item in found["unusable"]] == ["d"]
    assert (found["num_files"], found["num_usable"]) == (2, 1)
    (bad_folder / "m.csv").write_text("ID,duration,wav\nd,1,gone.wav\n")
    assert run("check", bad_folder / "m.csv")["exit_code"] == 1


def test_check_as_text(bad_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", str(bad_folder)]) == 0
    text = capsys.readouterr().out
    assert text.startswith("2 of 7 files can be used")
    assert "silent      silent.wav" in text


def test_prepare_folder(run: Run, voices_folder: Path, tmp_path: Path) -> None:
    found = run("prepare", "folder", voices_folder, "--output", tmp_path / "data", "--speaker-from-parent")
    assert (found["num_utterances"], found["num_speakers"]) == (16, 4)
    manifest = read_manifest(found["manifest"], must_exist=True)
    assert manifest[0].id == "spk0/0.wav"
    resolve(read_trials(tmp_path / "data" / "trials.txt"), manifest)
    unlabelled = run("prepare", "folder", voices_folder, "--output", tmp_path / "plain")
    assert unlabelled["num_speakers"] is None
    assert unlabelled["trials"] == {}
    refused = run("prepare", "voxceleb1", voices_folder, "--output", tmp_path / "vox")
    assert refused["exit_code"] == 1
    assert "idXXXXX/VIDEO" in refused["error"]


def test_embed_folder_file_and_manifest(run: Run, voices_folder: Path, tmp_path: Path) -> None:
    output = tmp_path / "new" / "out.npz"
    file = voices_folder / "spk1" / "2.wav"
    found = run(
        "embed", voices_folder, file, voices_folder / "manifest.csv", "--encoder", "fbank_stats", "--output", output
    )
    assert (found["num_embedded"], found["num_skipped"], found["embedding_dim"]) == (33, 0, 160)
    archive = np.load(output)  # no pickles in it
    assert archive["embeddings"].shape == (33, 160)
    assert archive["embeddings"].dtype == np.float32
    rows = {name: archive["embeddings"][index] for index, name in enumerate(archive["ids"].tolist())}
    np.testing.assert_allclose(rows["spk1/2.wav"], rows[str(file)], atol=1e-4)
    np.testing.assert_allclose(rows["spk1/2.wav"], rows["spk1_2"], atol=1e-4)
    assert [path.name for path in output.parent.iterdir()] == ["out.npz"]


def test_embed_lists_bad_files_and_writes_the_good(run: Run, bad_folder: Path, tmp_path: Path) -> None:
    output = tmp_path / "out.npz"
    found = run("embed", bad_folder, "--encoder", "fbank_stats", "--output", output)
    assert found["exit_code"] == 0
    skipped = {item["name"] for item in found["skipped"]}
    assert skipped >= {"empty.wav", "corrupt.flac", "nan.wav"}
    assert "good.wav" in np.load(output)["ids"]
    assert len(np.load(output)["ids"]) == found["num_embedded"] == 7 - found["num_skipped"]
    assert "skipped empty.wav: " in found["stderr"]
    nothing = run("embed", bad_folder / "empty.wav", "--encoder", "fbank_stats", "--output", tmp_path / "none.npz")
    assert nothing["exit_code"] == 1
    assert "none of 1 files could be embedded" in nothing["error"]
    assert not (tmp_path / "none.npz").exists()
    absent = run("embed", bad_folder / "gone.wav", "--encoder", "fbank_stats", "--output", tmp_path / "none.npz")
    assert "no such file or folder" in absent["error"]


def test_embed_into_a_folder(run: Run, voices_folder: Path, tmp_path: Path) -> None:
    folder, manifest = tmp_path / "parts", voices_folder / "manifest.csv"
    words = ("embed", manifest, "--encoder", "fbank_stats", "--part-size", 5, "--num-workers", 1)
    found = run(*words, "--output", f"{folder}/")
    assert (found["num_embedded"], found["embedding_dim"], found["output"]) == (16, 160, str(folder))
    assert read_embeddings(folder).ids == [utterance.id for utterance in read_manifest(manifest)]
    assert len(list(folder.glob("part-*.npz"))) == 4
    assert run(*words, "--output", tmp_path / "a.npz")["error"].endswith("need a folder, not a file")


@pytest.mark.usefixtures("memory_urls")
@pytest.mark.slow
def test_shard_and_then_pretrain_embed_and_check(
    run: Run, voices_folder: Path, tmp_path: Path, tiny_recipe: Tiny
) -> None:
    (voices_folder / "spk3" / "3.wav").write_bytes(b"bad")
    found = run("shard", voices_folder / "manifest.csv", "--output", tmp_path / "shards", "--shard-mb", 0.1)
    assert (found["exit_code"], found["num_utterances"], found["num_failures"]) == (0, 15, 1)
    assert found["failures"][0]["name"] == "spk3_3"
    manifest = found["manifest"]
    checked = run("check", manifest)
    assert (checked["num_files"], checked["num_usable"], checked["remarks"]) == (15, 15, [])
    words = ("embed", tmp_path / "shards", "--encoder", "fbank_stats", "--precision", "bf16")
    embedded = run(*words, "--output", tmp_path / "a.npz")
    assert embedded["num_embedded"] == 15
    words = tiny_recipe(tmp_path / "out")
    losses = [
        run(
            "pretrain",
            *words,
            "--trainer.schedule.length=2",
            f"--output_folder={tmp_path / 'run' / name}",
            f"--train_manifest={csv}",
        )
        for name, csv in {"files": without(voices_folder, "spk3_3"), "shards": manifest}.items()
    ]
    assert losses[0]["last"]["loss"] == losses[1]["last"]["loss"]
    for path in (tmp_path / "shards").iterdir():
        fsspec.filesystem("memory").pipe(f"/pretrain/{path.name}", path.read_bytes())
    words += ["--trainer.schedule.length=2", f"--output_folder={tmp_path / 'remote'}", "--trainer.run.shards_at_once=1"]
    remote = run("pretrain", *words, "--train_manifest=memory://pretrain/manifest.csv")
    assert (remote["exit_code"], remote["num_steps"], remote["num_skipped"]) == (0, 2, 0)


def without(folder: Path, name: str) -> Path:
    """The manifest of a folder without one row."""
    lines = (folder / "manifest.csv").read_text().splitlines(keepends=True)
    (folder / "good.csv").write_text("".join(line for line in lines if not line.startswith(name)))
    return folder / "good.csv"


def test_verify(run: Run, voices_folder: Path) -> None:
    a, b = voices_folder / "spk0" / "0.wav", voices_folder / "spk3" / "1.wav"
    same = run("verify", a, a, "--encoder", "fbank_stats")
    assert same["score"] == pytest.approx(1.0, abs=1e-5)
    assert (same["same_speaker"], same["threshold"]) == (None, None)
    other = run("verify", a, b, "--encoder", "fbank_stats", "--threshold", "0.999")
    assert other["same_speaker"] is False
    assert other["score"] < 0.999
    assert run("verify", a, b, "--encoder", "no/such/folder")["exit_code"] == 1
    assert "see dino-speech doctor" in run("verify", a, b, "--encoder", "fbank_stats", "--device", "tpu")["error"]


def test_evaluate_verification(run: Run, voices_folder: Path) -> None:
    pairs = [(f"spk{s}_{n}", f"spk{t}_{m}") for s in range(4) for n in range(4) for t in range(4) for m in range(n)]
    lines = [f"{int(a[:4] == b[:4])} {a} {b}" for a, b in pairs]
    (voices_folder / "trials.txt").write_text("\n".join(lines))
    words = ["evaluate", "verification", "--encoder", "fbank_stats", "--manifest", voices_folder / "manifest.csv"]
    found = run(*words, "--trials", voices_folder / "trials.txt", "--group-by", "emotion")
    assert found["num_trials"] == len(lines)
    assert 0 <= found["eer"] <= 50
    assert found["encoder"] == "fbank_stats"
    assert found["min_dcf"] <= 1
    assert set(found["groups"]) == {"happy", "neutral"}
    refused = run(*words, "--where", "emotion=happy", "--trials", voices_folder / "trials.txt")
    assert refused["exit_code"] == 1
    assert "trials.txt line 5: enroll 'spk0_2' is neither an ID" in refused["error"]


def test_evaluate_classification(run: Run, voices_folder: Path) -> None:
    words = ["evaluate", "classification", "--encoder", "fbank_stats", "--manifest", voices_folder / "manifest.csv"]
    found = run(*words, "--label", "emotion", "--folds", "2")
    assert (found["num_utterances"], found["num_folds"]) == (16, 2)
    assert 0 <= found["uar"] <= 1
    assert {"micro_f1", "macro_f1"} <= set(found)
    assert "did you mean 'emotion'" in run(*words, "--label", "emotio")["error"]


def cross_trials(speakers: range) -> str:
    """All pairs of the first three files of some speakers of `voices_folder`."""
    names = [f"spk{speaker}_{number}" for speaker in speakers for number in range(3)]
    pairs = [(a, b) for i, a in enumerate(names) for b in names[:i]]
    return "".join(f"{int(a[:4] == b[:4])} {a} {b}\n" for a, b in pairs)


@pytest.mark.slow
def test_evaluate_verification_with_a_whole_system(run: Run, voices_folder: Path, tmp_path: Path) -> None:
    manifest = voices_folder / "manifest.csv"
    for name, speakers in (("test", range(2)), ("dev", range(2, 4))):
        (tmp_path / f"{name}.txt").write_text(cross_trials(speakers))
    words = ["evaluate", "verification", "--encoder", "fbank_stats", "--manifest", manifest]
    words += ["--where", "speaker=spk0,spk1", "--trials", tmp_path / "test.txt"]
    other = [manifest, "--train-where", "speaker=spk2,spk3"]
    words_plda = [*words, "--backend", "plda", "--train-manifest", *other]
    found = run(*words_plda, "--score-norm", "as", "--top", "2", "--output", tmp_path / "out")
    assert (found["exit_code"], found["num_trials"]) == (0, 15)
    assert found["backend"]["num_train_utterances"] == 8
    assert found["score_norm"] == {"kind": "as", "num_cohort": 8, "num_compared": 2, "top": 2}
    assert found["calibration"] is None
    assert found["report"] == str(tmp_path / "out" / "report.md")
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"report.md", "report.json", "det.png"}
    options = ["--calibrate-manifest", manifest, "--calibrate-trials", tmp_path / "dev.txt", "--quality", "duration"]
    found = run(*words, *options, "--p-target", "0.1")
    assert set(found["calibration"]) >= {"cllr", "act_dcf", "cllr_before", "act_dcf_before", "weights"}
    assert found["calibration"]["p_target"] == 0.1
    leak = run(*words, "--backend", "plda", "--train-manifest", manifest)
    assert leak["exit_code"] == 1
    assert "2 speakers also stand in the trials (spk0, spk1)" in leak["error"]
    for mistake, message in (
        (["--lda-dim", "3"], "only for --backend plda"),
        (["--backend", "plda"], "--train-manifest"),
        (["--score-norm", "s"], "--cohort-manifest"),
        (["--calibrate-manifest", manifest], "--calibrate-trials"),
        (["--cohort-where", "speaker=spk2"], "--cohort-where selects rows of --cohort-manifest"),
    ):
        assert message in run(*words, *mistake)["error"]


@pytest.mark.slow
def test_evaluate_regression(run: Run, voices_folder: Path, tmp_path: Path) -> None:
    header, *rows = (voices_folder / "manifest.csv").read_text().splitlines()
    numbers = [f"{row},{90 + 45 * int(row[3]) + i},{i % 4}" for i, row in enumerate(rows)]
    manifest = voices_folder / "rated.csv"
    manifest.write_text("\n".join([f"{header},hz,arousal", *numbers]))
    words = ["evaluate", "regression", "--encoder", "fbank_stats", "--manifest", manifest]
    found = run(*words, "--labels", "hz,arousal", "--folds", "2", "--output", tmp_path / "out")
    assert set(found["ccc"]) == {"hz", "arousal"}
    assert (found["num_utterances"], found["num_folds"], found["chance_ccc"]) == (16, 2, 0)
    assert (tmp_path / "out" / "agreement.png").exists()
    refused = run(*words, "--labels", "hz,emotion")
    assert refused["exit_code"] == 1
    assert "rated.csv row 2, column 'emotion': found 'neutral'; expected a number" in refused["error"]
    assert "did you mean 'arousal'" in run(*words, "--labels", "arousall")["error"]


def test_evaluate_as_text(voices_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["evaluate", "classification", "--encoder", "fbank_stats", "--label", "emotion", "--folds", "2"]
    assert main([*words, "--manifest", str(voices_folder / "manifest.csv")]) == 0
    assert capsys.readouterr().out.startswith("UAR ")


@pytest.mark.slow
def test_pretrain_then_use(run: Run, tiny_recipe: Tiny, voices_folder: Path, tmp_path: Path) -> None:
    words = ["pretrain", *tiny_recipe(tmp_path / "out"), "--trainer.schedule.length=3"]
    found = run(*words)
    assert found["exit_code"] == 0
    assert (found["num_steps"], found["num_utterances"], found["stop_reason"]) == (3, 16, None)
    assert found["last"]["step"] == 3
    again = run(*words)
    assert again["last"] == found["last"]  # complete: only loaded
    refused = run(*words, "--trainer.optimizer.lr=1e-3")
    assert refused["exit_code"] == 1
    assert "lr" in refused["error"]
    assert run(*words, "--trainer.optimizer.lr=1e-3", "--restart")["exit_code"] == 0
    verdict = run("verify", *[voices_folder / "spk0" / "0.wav"] * 2, "--encoder", found["encoder"])
    assert verdict["score"] == pytest.approx(1.0, abs=1e-5)


@pytest.mark.slow
def test_pretrain_mistakes(run: Run, tiny_recipe: Tiny, tmp_path: Path) -> None:
    words = ["pretrain", *tiny_recipe(tmp_path / "out")]
    assert "did you mean 'schedule.length'" in run(*words, "--trainer.num_step=3")["error"]
    assert "did you mean 'num_workers'" in run(*words, "--trainer.run.num_worker=3")["error"]
    assert "give --output_folder=VALUE" in run(*words, "--output_folder=null")["error"]
    assert "expected !new:dino_speech.DINOPretrainer" in run(*words, "--trainer=[!ref <augment>]")["error"]
    assert "no such recipe" in run("pretrain", tmp_path / "absent.yaml")["error"]
    assert "no row has" in run(*words, "--where={speaker: nobody}")["error"]
    assert "no row has" in run("pretrain", "--where={speaker: nobody}", *words[1:])["error"]
    assert not (tmp_path / "out").exists()


def test_doctor(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    found = run("doctor")
    assert found["ok"] is True
    assert {"torch", "torchaudio", "torch + torchaudio"} <= {row["name"] for row in found["checks"]}
    assert main(["doctor"]) == 0
    assert "import together" in capsys.readouterr().out
