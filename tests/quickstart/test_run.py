"""The quickstart from end to end, tiny: the figures, the files, and what it does without labels or pictures."""

import json
import re
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from dino_speech.data.manifest import read_manifest
from dino_speech.data.trials import read_trials
from dino_speech.evaluation.verification.evaluate import evaluate_verification
from dino_speech.models.checkpoint import load_encoder
from dino_speech.quickstart.report import QuickstartReport
from dino_speech.quickstart.run import ENCODER, quickstart

KEYS = ("eer_untrained", "eer_pretrained", "uar_untrained", "uar_pretrained", "seconds")
TINY = {"num_train": 12, "num_train_speakers": 6, "num_test_speakers": 4, "num_test_files": 4}


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> QuickstartReport:
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(ENCODER, "embedding_dim", 6)  # few enough to be whitened by the 12 files
        return quickstart(output=tmp_path_factory.mktemp("quickstart"), seed=7, num_steps=2, corpus_sizes=TINY)


@pytest.mark.slow
def test_synthetic_run_gives_all_figures(report: QuickstartReport) -> None:
    data = report.to_dict()
    assert all(isinstance(data[key], float) for key in KEYS)
    assert 0 <= data["eer_pretrained"] <= 100
    assert 0 <= data["uar_pretrained"] <= 1
    assert data["synthetic"] is True
    names = ["fbank_stats (floor)", "untrained", "untrained, whitened", "pretrained", "pretrained, whitened"]
    assert [row["encoder"] for row in report.rows()] == names
    assert any(
        re.match(r"The best of what learnt nothing is .* EER .* %: .*(learnt|nothing)", note) for note in report.notes
    )
    assert any("batches of 12 instead of" in note for note in report.notes), "a small folder is said to be small"


@pytest.mark.slow
def test_files_are_written_and_agree(report: QuickstartReport) -> None:
    folder = report.folder
    for name in ("report.md", "det.png", "embeddings.png", "training.png", "encoder/model.safetensors"):
        assert (folder / name).stat().st_size > 500, name
    written = json.loads((folder / "report.json").read_text())
    assert {key: written[key] for key in KEYS} == {key: report.to_dict()[key] for key in KEYS}
    text = (folder / "report.md").read_text()
    assert "synthetic" in text.splitlines()[0]
    assert "not speech" in text
    assert "![Detection error trade-off](det.png)" in text


@pytest.mark.slow
def test_encoder_on_disk_has_the_reported_eer(report: QuickstartReport) -> None:
    trials, manifest = read_trials(report.data.trials_path), read_manifest(report.data.test_path)
    found = evaluate_verification(load_encoder(report.folder / "encoder"), manifest, trials, num_resamples=100)
    assert found.eer == pytest.approx(report.pretrained.eer)
    assert report.pretrained.eer is not None


@pytest.mark.slow
def test_next_commands_name_files_that_exist(report: QuickstartReport) -> None:
    commands = report.next_commands()
    assert [command.split()[1] for command in commands] == ["embed", "verify", "evaluate", "evaluate"]
    for command in commands:
        words = command.split()
        for option in ("--encoder", "--manifest", "--trials"):
            if option in words:
                assert Path(words[words.index(option) + 1]).exists()
        assert command in report.to_text()


@pytest.mark.slow
def test_own_folder_without_labels_or_matplotlib(
    write_wav: Callable[..., Path],
    tone: Callable[..., np.ndarray],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for number in range(14):
        write_wav(f"own/{number}.wav", tone(1.7, hz=100.0 + 15 * number, seed=number))
    (tmp_path / "own" / "bad.wav").write_bytes(b"not audio")
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    found = quickstart(data=tmp_path / "own", output=tmp_path / "out", num_steps=2)
    data = found.to_dict()
    assert [data[key] for key in KEYS[:4]] == [None] * 4
    assert data["rank_me_untrained"] >= 1
    assert data["rank_me_pretrained"] >= 1
    assert data["synthetic"] is False
    assert any("EER and UAR need speaker labels" in note for note in found.notes)
    assert any("Nothing is whitened: that wants 256 files" in note for note in found.notes)
    assert any("dino-speech[plots]" in note for note in found.notes)
    assert not list((tmp_path / "out").glob("*.png"))
    assert (tmp_path / "out" / "encoder" / "encoder.json").exists()
    assert "bad.wav" in (tmp_path / "out" / "report.md").read_text()
    assert [command.split()[1] for command in found.next_commands()] == ["embed", "verify"]
    assert "EER" not in found.to_text().splitlines()[0] or "-" in found.to_text().splitlines()[1]
    assert "checking the audio" in capsys.readouterr().err


@pytest.mark.slow
def test_steps_are_fitted_to_the_time(voices_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dino_speech.quickstart.run.MIN_STEPS", 2)
    monkeypatch.setattr("dino_speech.quickstart.run.NUM_TIMED_STEPS", 2)
    found = quickstart(data=voices_folder, output=tmp_path / "out", train_s=0.1, speaker_from_parent=True)
    assert found.settings["schedule"]["length"] == 2
    assert found.to_dict()["eer_pretrained"] is not None
    assert any("2 of them (8 files) are kept unseen" in note for note in found.notes)
    assert found.data.label is None
