"""Fine-tuned systems in the reports of frozen embeddings: who is resampled, and what is refused."""

import json
from pathlib import Path

import pytest
import torch

from dino_speech import build_encoder, evaluate_finetuned, read_manifest
from dino_speech.data.utterances import Manifest
from dino_speech.errors import InputError
from dino_speech.evaluation.reports.result_folder import write_results
from dino_speech.transfer.heads import LinearHead
from dino_speech.transfer.system import FineTunedSystem
from dino_speech.transfer.targets import Classes, Dimensions


def system_of(targets: Classes | Dimensions, objective: str) -> FineTunedSystem:
    encoder = build_encoder("ecapa_tdnn", embedding_dim=8, channels=8, attention_channels=8, se_channels=8, seed=0)
    torch.manual_seed(0)
    head = LinearHead(8, len(targets.names))
    torch.nn.init.normal_(head.affine.weight)
    return FineTunedSystem(encoder.eval(), head.eval(), targets, objective)


@pytest.fixture
def classes() -> FineTunedSystem:
    return system_of(Classes("emotion", ("happy", "neutral")), "cross_entropy")


def test_intervals_over_speakers(voices_folder: Path, classes: FineTunedSystem) -> None:
    report = evaluate_finetuned(classes, read_manifest(voices_folder / "manifest.csv"), num_resamples=50)
    assert (report.num_utterances, report.num_speakers, report.num_folds) == (16, 4, 0)
    assert report.intervals["uar"].low <= report.uar <= report.intervals["uar"].high


def test_a_single_speaker_has_figures_and_no_interval(
    voices_folder: Path, classes: FineTunedSystem, tmp_path: Path
) -> None:
    one = read_manifest(voices_folder / "manifest.csv").select(speaker="spk3")
    report = evaluate_finetuned(classes, one)
    assert (report.num_utterances, report.num_speakers) == (4, 1)
    assert not report.intervals["uar"].is_known
    text = write_results(tmp_path / "report", {"mine": report}).read_text()
    assert "not known" in text
    kept = json.loads((tmp_path / "report" / "report.json").read_text())["results"]["mine"]
    assert kept["intervals"]["uar"]["low"] is None
    for number, row in enumerate(one):
        row.labels["arousal"] = str(number)
    numbers = evaluate_finetuned(system_of(Dimensions(("arousal",), (1.5,), (1.0,)), "ccc"), _with(one, "arousal"))
    assert not numbers.intervals["arousal"].is_known


def test_an_unknown_class_is_refused(voices_folder: Path) -> None:
    system = system_of(Classes("emotion", ("happy", "sad")), "cross_entropy")
    with pytest.raises(InputError, match="'neutral', which the training set lacks"):
        evaluate_finetuned(system, read_manifest(voices_folder / "manifest.csv"))


def _with(manifest: Manifest, column: str) -> Manifest:
    return Manifest(list(manifest), columns=[*manifest.columns, column])
