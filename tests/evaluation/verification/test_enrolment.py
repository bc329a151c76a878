"""Enrolment from several utterances, scores in a file, several lists at once."""

import csv
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from dino_speech.cli.main import main
from dino_speech.data.manifest import Manifest, Utterance, read_manifest
from dino_speech.data.trials import Trials
from dino_speech.embedding.embedded_manifest import EmbeddedManifest
from dino_speech.errors import InputError
from dino_speech.evaluation.verification.enrolment import read_enrolment
from dino_speech.evaluation.verification.evaluate import evaluate_verification
from dino_speech.evaluation.verification.plda import PLDA
from dino_speech.evaluation.verification.several_lists import evaluate_trial_lists, write_scores

MODELS = {f"s{speaker}": [f"u{speaker * 6 + i}" for i in range(3)] for speaker in range(8)}


def speech(seed: int = 0) -> EmbeddedManifest:
    """Eight speakers of six utterances."""
    rng = np.random.default_rng(seed)
    speakers = np.repeat(np.arange(8), 6)
    vectors = 1 + rng.standard_normal((8, 6))[speakers] + rng.standard_normal((48, 6))
    rows = [
        Utterance(f"u{i}", f"/{seed}/{i}.wav", 1.0, labels={"speaker": f"{seed}_{s}"}) for i, s in enumerate(speakers)
    ]
    return EmbeddedManifest(Manifest(rows), vectors.astype(np.float32))


def model_trials() -> Trials:
    """Each model against the last three utterances of everyone."""
    tests = [f"u{speaker * 6 + 3 + i}" for speaker in range(8) for i in range(3)]
    pairs = [(model, test) for model in MODELS for test in tests]
    labels = [int(int(model[1:]) == int(test[1:]) // 6) for model, test in pairs]
    return Trials(np.array(labels, np.int8), [model for model, _ in pairs], [test for _, test in pairs])


def test_a_model_is_the_mean_of_its_utterances() -> None:
    data, trials = speech(), model_trials()
    options = {"embedded": data, "enrolment": MODELS, "num_resamples": 5}
    report = evaluate_verification(None, data.manifest, trials, **options)
    places = data.manifest.by_id()
    means = [data.embeddings[[places[u] for u in MODELS[model]]].astype(float).mean(axis=0) for model in trials.enroll]
    tests = [data.embeddings[places[test]].astype(float) for test in trials.test]
    cosines = [a @ b / np.linalg.norm(a) / np.linalg.norm(b) for a, b in zip(means, tests, strict=True)]
    assert report.scores == pytest.approx(cosines, abs=1e-5)
    assert (report.num_speakers, report.resampled) == (8, "speakers")
    plda = PLDA().fit(speech(1).embeddings, speech(1).manifest.label("speaker"))
    report = evaluate_verification(None, data.manifest, trials, backend=plda, **options)
    assert report.scores == pytest.approx(plda.score(np.array(means), np.array(tests)), abs=1e-4)


def test_a_model_is_of_what_could_be_embedded() -> None:
    data, trials = speech(), model_trials()
    data.embeddings[[0, 6, 7, 8]] = np.nan  # one utterance of the first model, all of the second
    report = evaluate_verification(None, data.manifest, trials, embedded=data, enrolment=MODELS, num_resamples=5)
    assert report.num_dropped_trials == 24
    expected = data.embeddings[1:3].mean(axis=0) @ data.embeddings[3]
    lengths = np.linalg.norm(data.embeddings[1:3].mean(axis=0)) * np.linalg.norm(data.embeddings[3])
    assert report.scores[0] == pytest.approx(expected / lengths, abs=1e-5)
    assert "s1" not in report.trials.enroll


def test_an_enrolment_is_read_and_its_mistakes_named(tmp_path: Path) -> None:
    file = tmp_path / "models.txt"
    file.write_text("anna a1 a2\n\nben b1\nanna a3\n")
    assert read_enrolment(file) == {"anna": ["a1", "a2", "a3"], "ben": ["b1"]}
    for text, message in (
        ("anna\n", r"line 1: found 'anna'; expected lines `model utterance"),
        ("anna a1\nanna a1\n", r"line 2: found 'a1' a second time"),
        ("\n", "holds no models"),
    ):
        file.write_text(text)
        with pytest.raises(InputError, match=message):
            read_enrolment(file)
    data, trials = speech(), model_trials()
    with pytest.raises(InputError, match=r"trials number 25: enroll 's1' is no model of the enrolment"):
        evaluate_verification(None, data.manifest, trials, embedded=data, enrolment={"s0": ["u0"]})
    with pytest.raises(InputError, match=r"'nobody' is neither an ID nor a path"):
        evaluate_verification(None, data.manifest, trials, embedded=data, enrolment=MODELS | {"s0": ["nobody"]})
    leak = replace(data, manifest=Manifest([replace(row, labels={"speaker": "x"}) for row in data.manifest]))
    with pytest.raises(InputError, match="48 recordings also stand in the trials"):
        evaluate_verification(
            None, data.manifest, trials, embedded=data, enrolment=MODELS, backend="cosine_mean", train=leak
        )


def test_scores_are_written_as_they_were_given(tmp_path: Path) -> None:
    data, trials = speech(), model_trials()
    report = evaluate_verification(None, data.manifest, trials, embedded=data, enrolment=MODELS, num_resamples=5)
    with write_scores({"one": report}, tmp_path / "scores.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["enroll"], row["test"]) for row in rows] == list(zip(trials.enroll, trials.test, strict=True))
    assert np.array([row["score"] for row in rows], np.float32).tolist() == report.scores.tolist()
    assert [int(row["label"]) for row in rows] == trials.labels.tolist()


def test_several_lists_hear_each_utterance_once(encoder, voices: Manifest, tmp_path: Path) -> None:
    names = [utterance.id for utterance in voices]
    pairs = [(a, b) for a in names[:8] for b in names[:8] if a < b]
    labels = np.array([a[:4] == b[:4] for a, b in pairs], np.int8)
    whole = Trials(labels, [a for a, _ in pairs], [b for _, b in pairs])
    lists = {"all": whole, "hard": whole.subset(range(10))}
    reports = evaluate_trial_lists(encoder, voices, lists, num_resamples=5)
    assert encoder.num_files == 8
    alone = evaluate_verification(encoder, voices, lists["hard"], num_resamples=5)
    assert reports["hard"].scores.tolist() == alone.scores.tolist()
    with write_scores(reports, tmp_path / "scores.csv").open(newline="") as file:
        rows = list(csv.reader(file))
    assert (rows[0][0], rows[1][0], rows[-1][0]) == ("list", "all", "hard")
    assert len(rows) == 1 + len(whole) + 10


def test_command(voices_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    names = [row.id for row in read_manifest(voices_folder / "manifest.csv")]
    lines = [f"{int(model == name[:4])} {model} {name}" for model in ("spk0", "spk1") for name in (names[2], names[6])]
    (tmp_path / "O.txt").write_text("\n".join(lines))
    (tmp_path / "E.txt").write_text("\n".join(lines[::-1]))
    (tmp_path / "models.txt").write_text(f"spk0 {names[0]} {names[1]}\nspk1 {names[4]}\n")
    words = ["evaluate", "verification", "--encoder", "fbank_stats", "--manifest", str(voices_folder / "manifest.csv")]
    words += ["--trials", str(tmp_path / "O.txt"), str(tmp_path / "E.txt"), "--enrolment", str(tmp_path / "models.txt")]
    assert main([*words, "--scores", str(tmp_path / "out" / "scores.csv"), "--output", str(tmp_path / "out")]) == 0
    assert len((tmp_path / "out" / "scores.csv").read_text().splitlines()) == 9
    text = capsys.readouterr().out
    assert text.startswith("O\n")
    assert "\nE\n" in text
    assert "| E |" in (tmp_path / "out" / "report.md").read_text()
    assert main([*words, "--trials", str(tmp_path / "O.txt")]) == 2
    assert "two have the same file name" in capsys.readouterr().err
