"""One encoder of a comparison, examined: clean, under conditions, by groups and single speakers, and what it costs.

Every part is kept when it is finished. Each utterance is embedded once clean and once per condition, and each probe is
fitted once. Letters: `M` rows of the manifest, `D` embedding.
"""

import platform
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from dino_speech.data.resumable_store import ResumableStore
from dino_speech.data.utterances import Skipped
from dino_speech.embedding.embedded_manifest import EmbeddedManifest, EmbeddedOnce, embed_manifest
from dino_speech.errors import InputError
from dino_speech.evaluation.probing.classification import classification_report
from dino_speech.evaluation.probing.regression import regression_report
from dino_speech.evaluation.stress.conditions import Condition
from dino_speech.evaluation.stress.efficiency import measure_efficiency
from dino_speech.evaluation.stress.fairness import compare_groups
from dino_speech.evaluation.stress.group_differences import label_spread, trial_spread
from dino_speech.evaluation.stress.label_and_trial_tasks import LabelTask, TrialTask, label_task, trial_task
from dino_speech.evaluation.stress.robustness import NUM_RESAMPLES, Judge, LabelJudge, TrialJudge, judge_condition
from dino_speech.evaluation.verification.evaluate import evaluate_verification
from dino_speech.models.checkpoint import load_encoder
from dino_speech.models.encoder import SpeechEncoder
from dino_speech.models.fingerprint import fingerprint
from dino_speech.studies.comparison.benchmark import CLASSES, NUMBERS, TRIALS, Benchmark
from dino_speech.studies.comparison.encoder_names import Source
from dino_speech.studies.comparison.task_predictions import TaskPredictions, figure_names, figures_with_differences


class JudgedEncoder:
    """What one encoder, or the one that `load_encoder` finds at `source` whenever needed, is worth on a benchmark.

    `store` keeps finished parts; `options` are passed to `embed_files`.
    """

    def __init__(
        self,
        benchmark: Benchmark,
        source: Source,
        store: ResumableStore,
        *,
        device: str | torch.device,
        options: Mapping[str, Any],
    ) -> None:
        self._load = lambda: source if isinstance(source, SpeechEncoder) else load_encoder(source, device=device)
        encoder = self._load()
        self.benchmark, self.source = benchmark, source if isinstance(source, str) else "memory"
        self.config, self.device = encoder.config, encoder.device
        self.options = dict(options)
        self._store = store
        self._store.depends_on = {"config": self.config.to_dict(), "weights": fingerprint(encoder)}
        self._once: Any = EmbeddedOnce(self._load)
        self._excluded: list[str] = []

    def examine(
        self,
        floor: Mapping[str, TaskPredictions] | None,
        conditions: Sequence[Condition],
        recordings: Any,
        step: Callable[[str], None],
        name: str,
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """A row of the table but for its name and its conditions' means, and what is behind it.

        `floor` are the predictions of the encoder that this one is held against, by task; None: this is the floor.
        `recordings` is plain data on what the conditions draw on; `step` is told what is next.
        """
        step(f"{name}: folds")
        figures: dict[str, Any] = {}
        fairness: dict[str, Any] = {}
        bootstrap = {"num_resamples": self.benchmark.num_resamples, "seed": self.benchmark.seed}
        for task in self.benchmark.tasks:
            others = None if floor is None else floor[task]
            figures |= figures_with_differences(self.predictions(task), others, **bootstrap)
            fairness |= self.groups(task)
        details: dict[str, Any] = {"reports": {task: self.report(task) for task in self.benchmark.tasks}}
        details |= {"conditions": {}, "lost": {}, "fairness": fairness}
        for condition in conditions:
            step(f"{name}: {condition.name}")
            try:
                details["conditions"][condition.name] = self.outcomes(condition, recordings)
            except InputError as error:  # hours of other conditions are not thrown away for it
                details["lost"][condition.name] = str(error)
        self.release()
        shown = ("group", "differences", "speakers")
        row = {
            "source": self.source,
            "efficiency": self._cost,
            "encoder": self.config.name,
            "embedding_dim": self.config.embedding_dim,
            "figures": figures,
            "fairness": {name: {key: found[key] for key in shown} for name, found in fairness.items()},
        }
        return row, details

    def release(self) -> None:
        """Give the memory of encoder, tasks and probes back; what is asked for later is made again."""
        self._once.release()
        for name in ("_tasks", "_judges"):
            self.__dict__.pop(name, None)

    def measure(self, **options: Any) -> None:
        """Measure what the encoder costs on this machine; the options are those of `measure_efficiency`."""
        threads = torch.get_num_threads() if options.get("num_threads") is None else options["num_threads"]
        machine = [str(self.device), platform.node(), threads]
        self._cost = self._store.data(
            "efficiency", [machine, options], lambda: _without_origin(measure_efficiency(self._load(), **options))
        )

    @cached_property
    def clean(self) -> EmbeddedManifest:
        """(M, D) of what could be embedded among the utterances that are needed."""
        benchmark = self.benchmark

        def embed() -> dict[str, NDArray[Any]]:
            found = embed_manifest(self._once, benchmark.manifest, rows=benchmark.rows, **self.options)
            skipped = np.array([(item.name, item.reason) for item in found.skipped], dtype=np.str_).reshape(-1, 2)
            return {"embeddings": found.embeddings[benchmark.rows], "skipped": skipped}

        arrays = self._store.arrays("clean", [benchmark.audio, self.options.get("precision")], embed)
        embeddings = np.full((len(benchmark.manifest), arrays["embeddings"].shape[1]), np.nan, dtype=np.float32)
        embeddings[benchmark.rows] = arrays["embeddings"]
        return EmbeddedManifest(benchmark.manifest, embeddings, [Skipped(*pair) for pair in arrays["skipped"].tolist()])

    def leave_out(self, names: Iterable[str]) -> None:
        """Utterances that some encoder could not embed count for none: folds and figures are of the same ones."""
        positions = self.benchmark.manifest.by_id()
        self._excluded = sorted(names)
        self.clean.embeddings[[positions[name] for name in self._excluded]] = np.nan

    def predictions(self, task: str) -> TaskPredictions:
        """Of the clean speech."""
        made = self._store.arrays(
            f"answers_{task}", self._identity(task), lambda: TaskPredictions.of_task(self._tasks[task]).arrays()
        )
        return TaskPredictions(**made)

    def report(self, task: str) -> dict[str, Any]:
        """The report of the evaluation, as plain data."""
        return self._store.data(f"report_{task}", self._identity(task), lambda: _without_origin(self._report(task)))

    def groups(self, task: str) -> dict[str, Any]:
        """Figure -> `differences` of groups and spread over `speakers`; InputError: named ones cannot be compared."""
        depends_on = [self._identity(task), self.benchmark.group_identity()]
        return self._store.data(f"fairness_{task}", depends_on, lambda: self._groups(task))

    def outcomes(self, condition: Condition, sounds: Any) -> dict[str, Any]:
        """Task -> what a condition does to it, as plain data; `sounds` says what recordings the condition draws on."""
        precision = self.options.get("precision")
        depends_on = [[self._identity(task) for task in self.benchmark.tasks], _identity(condition), sounds, precision]
        return self._store.data(f"condition_{condition.name}", depends_on, lambda: self._outcomes(condition))

    def _identity(self, task: str) -> list[Any]:
        return [self.benchmark.identity(task), self._excluded, self.options.get("precision")]

    @cached_property
    def _tasks(self) -> dict[str, LabelTask | TrialTask]:
        return {task: self._task(task) for task in self.benchmark.tasks}

    @cached_property
    def _judges(self) -> dict[str, Judge]:
        tasks = self._tasks.items()
        return {name: TrialJudge(x) if isinstance(x, TrialTask) else LabelJudge(x, None) for name, x in tasks}

    def _task(self, task: str) -> LabelTask | TrialTask:
        benchmark = self.benchmark
        common: dict[str, Any] = {"speaker": benchmark.speaker, "embedded": self.clean, **self.options}
        if task == TRIALS:
            assert benchmark.trials is not None
            return trial_task(self._once, benchmark.manifest, benchmark.trials, **common)
        asked: dict[str, Any] = {"label": benchmark.label} if task == CLASSES else {"labels": list(benchmark.labels)}
        common |= {"num_folds": benchmark.num_folds, "seed": benchmark.seed}
        return label_task(self._once, benchmark.manifest, **asked, **common)

    def _report(self, task: str) -> Any:
        benchmark, found = self.benchmark, self._tasks[task]
        bootstrap: dict[str, Any] = {"num_resamples": benchmark.num_resamples, "seed": benchmark.seed}
        if not isinstance(found, LabelTask):
            assert benchmark.trials is not None
            return evaluate_verification(None, benchmark.manifest, benchmark.trials, embedded=self.clean, **bootstrap)
        shared: dict[str, Any] = {"num_folds": found.num_folds, "skipped": found.skipped, "provenance": {}, **bootstrap}
        if task == NUMBERS:
            numbers = found.true, found.predicted
            return regression_report(*numbers, found.speakers, labels=found.labels, strengths={}, **shared)
        classes = np.array(found.classes)
        true, said = (classes[codes[:, 0].astype(np.int64)] for codes in (found.true, found.predicted))
        return classification_report(true, said, found.speakers, label=found.labels[0], strengths=[], **shared)

    def _groups(self, task: str) -> dict[str, Any]:
        benchmark, found = self.benchmark, self._tasks[task]
        spread: dict[str, Any] = {"min_items": benchmark.min_items, "seed": benchmark.seed}
        group = benchmark.compared_group
        if group is not None:
            try:
                compared, _ = compare_groups(found, group, num_resamples=benchmark.num_resamples, **spread)
            except InputError:
                if benchmark.group is not None:
                    raise
            else:
                figures = zip(figure_names(found), compared.values(), strict=True)
                return {name: {"group": group, **one.to_dict()} for name, one in figures}
        try:
            if isinstance(found, LabelTask):
                alone = [label_spread(found, column, **spread) for column in range(len(found.labels))]
            else:
                alone = [trial_spread(found, **spread)]
        except InputError:  # trials of speakers who are not named
            return {}
        pairs = zip(figure_names(found), [one.to_dict() for one in alone], strict=True)
        return {name: {"group": None, "differences": {}, "speakers": one} for name, one in pairs}

    def _outcomes(self, condition: Condition) -> dict[str, Any]:
        num_resamples, judges = min(NUM_RESAMPLES, self.benchmark.num_resamples), list(self._judges.values())
        found = judge_condition(judges, condition, num_resamples=num_resamples, seed=self.benchmark.seed)
        outcomes = {task: one.to_dict() for task, one in zip(self.benchmark.tasks, found, strict=True)}
        for task, outcome in outcomes.items():  # figures by their names in a comparison
            outcome["changes"] = dict(zip(figure_names(self._tasks[task]), outcome["changes"].values(), strict=True))
        return outcomes


def _without_origin(report: Any) -> dict[str, Any]:
    """A report as plain data; where it comes from is said once, of the whole comparison."""
    return {name: value for name, value in report.to_dict().items() if name != "provenance"}


def _identity(condition: Condition) -> dict[str, Any]:
    change = getattr(condition.change, "func", condition.change)
    made_by = f"{getattr(change, '__module__', '')}.{getattr(change, '__qualname__', type(change).__qualname__)}"
    return {"name": condition.name, "parameters": dict(condition.parameters), "made_by": made_by}
