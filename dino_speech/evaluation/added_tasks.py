"""Tasks by name: a function of embeddings and their manifest that gives figures; `content`, and what people add."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from os import PathLike
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from dino_speech.data.utterances import Manifest, Skipped
from dino_speech.embedding.embedded_manifest import embed_manifest
from dino_speech.evaluation.reports.report_file import write_report
from dino_speech.models.encoder import SpeechEncoder
from dino_speech.plain_data import PlainData
from dino_speech.provenance import provenance
from dino_speech.registry import Registry

Task = Callable[..., Mapping[str, float]]
Function = TypeVar("Function", bound=Task)
TASKS: Registry[Task] = Registry("task", {}, {"content": "dino_speech.evaluation.content"})


@dataclass(frozen=True, eq=False)
class TaskReport(PlainData):
    """What `evaluate_task` found: the figures that the task gave, and the utterances that were left out, and why."""

    task: str
    figures: dict[str, float]
    num_utterances: int
    skipped: list[Skipped]
    provenance: dict[str, Any] = field(repr=False)

    def write(self, folder: str | PathLike[str]) -> Path:
        """Write `report.md` and `report.json`; the path of the first."""
        tables = {"Figures": [{"figure": name, "value": value} for name, value in self.figures.items()]}
        return write_report(folder, self.task, tables, {}, self.provenance, results=self.to_dict())


def register_task(name: str) -> Callable[[Function], Function]:
    """Make a task of one's own known under a name, to `evaluate_task` and `dino-speech evaluate task`: a decorator.

    The page "Add your own" has an example. The function is called with embeddings (N, D) float32, the manifest of the
    same N utterances, `seed`, and options; it gives figures by name.
    """

    def register(task: Function) -> Function:
        TASKS.register(name, task)
        return task

    return register


def evaluate_task(
    name: str,
    encoder: SpeechEncoder,
    manifest: Manifest,
    *,
    seed: int = 0,
    options: Mapping[str, Any] | None = None,
    **embedding: Any,
) -> TaskReport:
    """Embed each utterance once, and let a task of one's own judge the embeddings.

    Args:
        name: of the task.
        encoder: any.
        manifest: the utterances; those that cannot be read are left out and listed.
        seed: passed to the task, like `options`.
        embedding: passed to `embed_files` (`batch_s`, `num_workers`, `progress`).

    Raises:
        InputError: there is no such task, or nothing could be embedded; or what the task refuses.
    """
    task = TASKS[name]
    embedded = embed_manifest(encoder, manifest, **embedding)
    rows = np.flatnonzero(embedded.usable).tolist()
    figures = dict(task(embedded.embeddings[rows], manifest.subset(rows), seed=seed, **(options or {})))
    return TaskReport(name, figures, len(rows), embedded.skipped, provenance(seed=seed, manifest=manifest.paths))
