"""`evaluate clinical` and `split-speech`: what they answer, in JSON and as text."""

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile

from dino_speech.cli.main import main
from dino_speech.data.manifest import read_manifest


@pytest.fixture
def clinic(voices_folder: Path) -> Path:
    """The voices' manifest with a diagnosis for each of the four people."""
    path = voices_folder / "clinic.csv"
    lines = (voices_folder / "manifest.csv").read_text().splitlines()
    rows = [f"{line},{'ad' if line[:4] in ('spk0', 'spk2') else 'control'}" for line in lines[1:]]
    path.write_text("\n".join([f"{lines[0]},diagnosis", *rows]) + "\n")
    return path


def _clinical(clinic: Path, *words: str) -> list[str]:
    question = ["--label", "diagnosis", "--positive", "ad", "--folds", "2"]
    return ["evaluate", "clinical", "--encoder", "fbank_stats", "--manifest", str(clinic), *question, *words]


@pytest.mark.slow
def test_evaluate_clinical(clinic: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(_clinical(clinic, "--segment-s", "0.5", "--output", str(tmp_path / "report"), "--json")) == 0
    found = json.loads(capsys.readouterr().out.splitlines()[-1])
    keys = ["accuracy", "uar", "f1", "sensitivity", "specificity", "auc", "intervals", "num_subjects"]
    assert list(found)[: len(keys)] == keys
    assert (found["num_subjects"], found["num_positive"], found["threshold"]) == (4, 2, 0.0)
    assert found["num_segments"] > 16
    assert found["silence_control"]["possible"] is False
    assert found["silence_control"]["reason"].startswith("not possible: ")
    assert found["warnings"]
    assert "not a diagnosis" in Path(found["report"]).read_text()
    assert main(_clinical(clinic)) == 0
    text = capsys.readouterr().out
    assert "! Silence control not possible" in text
    assert "sensitivity" in text
    assert text.rstrip().endswith("Not a diagnosis.")


def test_evaluate_clinical_refuses_what_is_unclear(clinic: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*_clinical(clinic), "--positive", "AD"]) == 1
    assert "found values: ad, control" in capsys.readouterr().err
    assert main([*_clinical(clinic), "--label", "emotion", "--positive", "happy"]) == 1
    assert "a person has one class" in capsys.readouterr().err
    with pytest.raises(SystemExit, match="2"):
        main(_clinical(clinic, "--split", "split"))


def test_split_speech(tmp_path: Path, tone, capsys: pytest.CaptureFixture[str]) -> None:
    rows = ["ID,duration,wav,diagnosis"]
    for number, pause_s in enumerate((1.0, 1.2, 0.2)):
        pause = 1e-4 * np.random.default_rng(number).standard_normal(round(16_000 * pause_s))
        wave = np.concatenate([tone(0.5), pause, tone(0.5)])
        soundfile.write(tmp_path / f"{number}.wav", wave, 16_000, subtype="FLOAT")
        rows.append(f"r{number},{len(wave) / 16_000},{number}.wav,{'control' if number == 2 else 'ad'}")
    (tmp_path / "clinic.csv").write_text("\n".join(rows) + "\n")
    words = ["split-speech", str(tmp_path / "clinic.csv"), "--output", str(tmp_path / "silence")]
    assert main([*words, "--label", "diagnosis", "--positive", "ad", "--json"]) == 0
    found = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert (found["num_recordings"], found["num_written"], found["missing"]) == (3, 2, {"r2": "short"})
    assert found["missing_by_class"] == {"ad": [0, 2], "control": [1, 1]}
    assert found["nonspeech_fraction_auc"] == 1.0
    assert [row.id for row in read_manifest(tmp_path / "silence" / "manifest.csv", must_exist=True)] == ["r0", "r1"]
    assert main(words) == 0
    assert "share of non-speech" in capsys.readouterr().out
    assert main([*words, "--part", "speech"]) == 1
    assert "other settings (part)" in capsys.readouterr().err
    assert main([*words, "--positive", "ad"]) == 2
    assert "needs --label" in capsys.readouterr().err
