"""The stress tests on the command line: JSON, tables, reports; encoders and fine-tuned systems."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dino_speech.cli.main import main
from dino_speech.models.registry import build_encoder
from dino_speech.transfer.heads import LinearHead
from dino_speech.transfer.system import FineTunedSystem
from dino_speech.transfer.targets import Classes

Run = Callable[..., dict[str, Any]]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    """`run("robustness", ...)` gives the JSON of the last line."""

    def call(kind: str, *words: object) -> dict[str, Any]:
        capsys.readouterr()
        exit_code = main(["evaluate", kind, *map(str, words), "--json"])
        found: dict[str, Any] = json.loads(capsys.readouterr().out.splitlines()[-1])
        return {**found, "exit_code": exit_code}

    return call


@pytest.fixture
def manifest(voices_folder: Path) -> Path:
    """The voices, with the sex of the speakers and a number."""
    path = voices_folder / "manifest.csv"
    header, *rows = path.read_text().splitlines()
    rows = [f"{row},{'FM'[i // 4 % 2]},{i % 4}.5" for i, row in enumerate(rows)]
    path.write_text("\n".join([f"{header},sex,arousal", *rows]) + "\n")
    return path


@pytest.mark.slow
def test_robustness(run: Run, manifest: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--encoder", "fbank_stats", "--manifest", manifest, "--conditions", "gain,white_noise_0db"]
    found = run("robustness", *words, "--label", "emotion", "--output", tmp_path / "report")
    assert (found["exit_code"], found["metric"], found["encoder"]) == (0, "uar", "fbank_stats")
    assert [condition["name"] for condition in found["conditions"]][-1] == "white_noise_0db"
    assert found["conditions"][0]["changes"]["uar"]["unchanged"] == 1
    assert "| white_noise_0db | uar |" in (tmp_path / "report" / "report.md").read_text()
    found = run("robustness", *words, "--labels", "arousal")
    assert set(found["clean"]) == {"arousal"}
    trials = tmp_path / "trials.txt"
    trials.write_text("1 spk0_0 spk0_1\n1 spk1_0 spk1_1\n0 spk0_0 spk1_1\n0 spk2_0 spk3_1\n")
    assert "eer" in run("robustness", *words, "--trials", trials)["clean"]
    assert main(["evaluate", "robustness", *map(str, words), "--label", "emotion"]) == 0
    assert "| gain_-20db | uar |" in capsys.readouterr().out
    assert (
        "no condition or kind is called 'rain'"
        in run(
            "robustness",
            "--encoder",
            "fbank_stats",
            "--manifest",
            manifest,
            "--label",
            "emotion",
            "--conditions",
            "rain",
        )["error"]
    )


def test_fairness(run: Run, manifest: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--encoder", "fbank_stats", "--manifest", str(manifest), "--label", "emotion", "--folds", "2"]
    found = run("fairness", *words)
    assert (found["metric"], found["group"]) == ("uar", "sex")
    assert list(found["figures"]["uar"]["differences"]) == ["F - M"]
    assert found["figures"]["uar"]["speakers"]["num_left_out"] == 4  # of four files each
    assert main(["evaluate", "fairness", *words, "--group", "gender"]) == 1
    assert "no column 'gender'" in capsys.readouterr().err


@pytest.mark.slow
def test_efficiency_of_several(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--seconds", "0.5", "--rounds", "1", "--threads", "1", "--encoder", "fbank_stats"]
    found = run("efficiency", *words, "--encoder", "random:light_resnet34")
    assert found["encoders"]["fbank_stats"]["num_parameters"] == 0
    assert found["encoders"]["random:light_resnet34"]["num_parameters"] > 1e6
    assert main(["evaluate", "efficiency", *words]) == 0
    assert "0.5 s on" in capsys.readouterr().out


def test_a_finetuned_systems_folder(run: Run, manifest: Path, tmp_path: Path) -> None:
    encoder = build_encoder("ecapa_tdnn", embedding_dim=8, channels=8, attention_channels=8, se_channels=8, seed=0)
    targets = Classes("emotion", ("happy", "neutral"))
    folder = FineTunedSystem(encoder, LinearHead(8, 2), targets, "cross_entropy").save(tmp_path / "system")
    found = run("robustness", "--encoder", folder, "--manifest", manifest, "--conditions", "tone", "--device", "cpu")
    assert set(found["clean"]) == {"uar"}
    assert found["num_utterances"] == 16
