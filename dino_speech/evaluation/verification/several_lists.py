"""Several lists of trials, such as VoxCeleb's O, E and H: each utterance embedded once, scores in one file."""

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from dino_speech.data.atomic import write_rows_atomically
from dino_speech.data.trials import Trials
from dino_speech.data.utterances import Manifest
from dino_speech.embedding.embedded_manifest import EmbeddedOnce
from dino_speech.evaluation.verification.evaluate import evaluate_verification
from dino_speech.evaluation.verification.report import VerificationReport
from dino_speech.models.encoder import SpeechEncoder


def evaluate_trial_lists(
    encoder: SpeechEncoder, manifest: Manifest, lists: Mapping[str, Trials], **options: Any
) -> dict[str, VerificationReport]:
    """`evaluate_verification` of several lists by name; an utterance is heard once, in however many it stands."""
    once: Any = EmbeddedOnce(lambda: encoder)
    return {name: evaluate_verification(once, manifest, trials, **options) for name, trials in lists.items()}


def write_scores(reports: Mapping[str, VerificationReport], path: str | os.PathLike[str]) -> Path:
    """Write each trial and its score, as CSV: `enroll`, `test`, `score`, `label` (1 target, 0 non-target).

    Of several lists the first column, `list`, is the name of each. Scores have all the digits that single precision
    needs.
    """

    def rows() -> Iterator[list[object]]:
        names = ["list"] if len(reports) > 1 else []
        yield [*names, "enroll", "test", "score", "label"]
        for name, report in reports.items():
            sides = report.trials.enroll, report.trials.test
            for enroll, test, score, label in zip(*sides, report.scores, report.labels.tolist(), strict=True):
                yield [*([name] if names else []), enroll, test, f"{score:.9g}", label]

    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    write_rows_atomically(target, rows())
    return target
