"""Encoders side by side, as one table: what each knows, what noise does to it, whom it serves worse, what it costs.

The same utterances, folds, conditions and resampled speakers for every row. `benchmark.py` holds what is judged by,
`judged_encoder.py` what one encoder is worth on it; the files of a comparison are written in `report.py`.
"""

import logging
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import torch

from dino_speech.audio.decoding import StrPath
from dino_speech.data.manifest import read_manifest
from dino_speech.data.resumable_store import ResumableStore, safe_name
from dino_speech.data.trials import Trials, read_trials
from dino_speech.data.utterances import Manifest, Skipped
from dino_speech.errors import InputError
from dino_speech.evaluation.stress.conditions import Condition
from dino_speech.models.checkpoint import load_encoder
from dino_speech.models.encoder import SpeechEncoder
from dino_speech.provenance import provenance
from dino_speech.studies.comparison.benchmark import Benchmark
from dino_speech.studies.comparison.condition_choice import Perturbations, choose_perturbations, list_recordings
from dino_speech.studies.comparison.encoder_names import FLOOR, Given, Source, name_encoders, with_floor
from dino_speech.studies.comparison.judged_encoder import JudgedEncoder
from dino_speech.studies.comparison.report import describe_comparison, write_comparison, write_tables
from dino_speech.studies.comparison.table import summarise_outcomes
from dino_speech.studies.comparison.task_predictions import TaskPredictions, figures_with_differences

logger = logging.getLogger(__name__)

Step = Callable[[str], None]  # called with what is done next


@dataclass(frozen=True, eq=False)
class EncoderComparison:
    """What `compare_encoders` found.

    Args:
        rows: one for each encoder, plain data: `system`, `source`, `encoder`, `embedding_dim`; `figures`: figure ->
            `value`, `interval`, `difference` from the floor, `difference_interval`; `robustness`: figure ->
            `unchanged`, `change` (means over the conditions) and the same by kind in `kinds`, or None; `fairness`:
            figure -> `group`, `differences`, `speakers`; `efficiency`. Figures are "uar", "ccc_mean" and "ccc_LABEL",
            and "eer" (percent).
        details: system -> full reports of the evaluations, of every condition and of the groups.
        floor: name of the row that the others are held against.
        conditions: names of those that all encoders could be judged under, in order.
        skipped: utterances left out of every row, and why.
        notes: what a reader must know beside the table.
        files: "table", "csv", "report", and "plot" where matplotlib is installed.
        provenance: versions, seed, manifest.
    """

    rows: list[dict[str, Any]]
    details: dict[str, Any] = field(repr=False)
    floor: str
    conditions: list[str]
    skipped: list[Skipped]
    notes: list[str]
    files: dict[str, Path]
    provenance: dict[str, Any] = field(repr=False)

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON, without the details."""
        plain = {name: value for name, value in self.__dict__.items() if name not in ("details", "files")}
        return plain | {
            "skipped": [item.to_dict() for item in self.skipped],
            **{name: str(path) for name, path in self.files.items()},
        }


def compare_encoders(
    systems: Given,
    manifest: Manifest | StrPath,
    *,
    output_folder: StrPath,
    label: str | None = None,
    labels: Sequence[str] = (),
    trials: Trials | StrPath | None = None,
    group: str | None = None,
    floor: str = FLOOR,
    perturbations: Perturbations = "all",
    noise: StrPath | None = None,
    rir: StrPath | None = None,
    speaker: str = "speaker",
    num_folds: int | None = None,
    min_items: int = 5,
    num_resamples: int = 1000,
    seconds: float = 10.0,
    num_rounds: int = 5,
    num_threads: int | None = None,
    seed: int = 0,
    device: str | torch.device = "cpu",
    resume: bool = True,
    progress: bool = False,
    **options: Any,
) -> EncoderComparison:
    """Compare encoders by any of three tasks, on the same utterances and folds.

    Leaves `table.md`, `table.csv`, `report.md`, `report.json` and, with matplotlib, `comparison.png` in the output
    folder, and finished parts in `parts/`: the same call goes on where it was stopped, and with more encoders or
    conditions computes only what is new. An utterance that one encoder cannot embed counts for none.

    Args:
        systems: encoders' folders or floors ("random:NAME", "untrained:FOLDER", "fbank_stats"), each as PATH or
            NAME=PATH; or a mapping of names to these or to encoders. None of them may have been trained with these
            speakers' labels.
        manifest: the labelled utterances.
        output_folder: made with its parents.
        label: column of classes: UAR of a linear probe in speaker-disjoint folds.
        labels: columns of numbers: CCC of each and their mean.
        trials: EER of cosine scores. At least one of these three is given.
        group: column of groups to compare; None: `sex`, where the manifest has it; else those columns stay blank.
        floor: which row the others are held against, by name; `fbank_stats` is added where it is missing.
        perturbations: "all" standard conditions, "quick" (six of them), "none"; or conditions, names or kinds.
        noise: folder or manifest of recorded backgrounds (see `standard_conditions`).
        rir: folder or manifest of room responses, instead of synthetic rooms.
        speaker: the column that no fold splits, and that is resampled.
        num_folds: 2 or more; None: 5, or the number of speakers where that is smaller.
        min_items: speakers with fewer utterances (or trials) have no figure of their own.
        num_resamples: of the bootstrap; at most 500 of them for each condition.
        seconds: length of the waves by which costs are measured.
        num_rounds: timed passes.
        num_threads: of PyTorch on the CPU while costs are measured; None: as it is set.
        seed: of folds, intervals and conditions.
        device: where encoders named by their places are put.
        resume: False computes every part anew.
        progress: show a bar on stderr.
        options: passed to `embed_files` (`batch_s`, `num_workers`, `precision`).

    Raises:
        InputError: a system that cannot be loaded, two of one name, no task, a missing column, an unknown condition:
            before anything is embedded; or what the evaluations refuse.
    """
    manifest = manifest if isinstance(manifest, Manifest) else read_manifest(manifest)
    benchmark = Benchmark(
        manifest=manifest,
        label=label,
        labels=_columns(labels),
        trials=trials if trials is None or isinstance(trials, Trials) else read_trials(trials),
        group=group,
        speaker=speaker,
        num_folds=num_folds,
        min_items=min_items,
        num_resamples=num_resamples,
        seed=seed,
    )
    encoders, floor = with_floor(name_encoders(systems), floor)
    conditions = choose_perturbations(perturbations, noise=noise, rir=rir)
    folder = Path(output_folder)
    cost = {"seconds": seconds, "num_rounds": num_rounds, "num_threads": num_threads}
    found: dict[str, JudgedEncoder] = {}
    rows: list[dict[str, Any]] = []
    with _steps(len(encoders) * (3 + len(conditions)), progress) as step:
        for name, source in encoders.items():
            step(f"{name}: cost")
            store = ResumableStore(folder / "parts" / safe_name(name), reuse=resume)
            found[name] = JudgedEncoder(benchmark, partial(_load, source, device), store, options)
            where = source if isinstance(source, str) else "memory"
            rows.append({"system": name, "source": where, "efficiency": found[name].measure(**cost)})
        skipped = _embed(found, step)
        details, names, lost = _fill(rows, found, floor, conditions, list_recordings(noise, rir), step, folder)
    notes = describe_comparison(benchmark, floor, names, len(skipped), rows[0]["efficiency"])
    notes += [f"Left out of the means of all systems: {reason}" for reason in lost]
    origin = provenance(seed=seed, manifest=manifest.paths)
    files, more = write_comparison(folder, rows, details, floor=floor, notes=notes, skipped=skipped, provenance=origin)
    return EncoderComparison(rows, details, floor, names, skipped, [*notes, *more], files, origin)


def _columns(labels: Sequence[str]) -> tuple[str, ...]:
    if isinstance(labels, str):
        raise InputError(f"labels is {labels!r}; expected a list of columns, such as ['arousal', 'valence']")
    return tuple(labels)


def _load(source: Source, device: str | torch.device) -> SpeechEncoder:
    return source if isinstance(source, SpeechEncoder) else load_encoder(source, device=device)


def _embed(found: Mapping[str, JudgedEncoder], step: Step) -> list[Skipped]:
    """Embed the clean speech with every encoder, and leave out for all what one of them could not embed."""
    skipped: dict[str, Skipped] = {}
    for name, judged in found.items():
        step(f"{name}: clean")
        for item in judged.clean.skipped:
            skipped.setdefault(item.name, Skipped(item.name, f"{name}: {item.reason}"))
        judged.release()
    for judged in found.values():
        judged.leave_out(list(skipped.values()))
    return list(skipped.values())


def _fill(
    rows: Sequence[dict[str, Any]],
    found: Mapping[str, JudgedEncoder],
    floor: str,
    conditions: Sequence[Condition],
    recordings: Any,
    step: Step,
    folder: Path,
) -> tuple[dict[str, Any], list[str], list[str]]:
    """Fill the rows, writing the table after each; what is behind them, the conditions of the means, why not others."""
    predictions = {task: found[floor].predictions(task) for task in found[floor].benchmark.tasks}
    details: dict[str, Any] = {}
    names: list[str] = []
    lost: dict[str, str] = {}
    for number, row in enumerate(rows, start=1):
        name = row["system"]
        others = None if name == floor else predictions
        figures, details[name] = _examine(found[name], conditions, others, recordings, partial(_tell, step, name))
        row |= figures
        lost |= details[name]["lost"]
        names = [condition.name for condition in conditions if condition.name not in lost]
        for filled in rows[:number]:
            filled["robustness"] = summarise_outcomes(details[filled["system"]]["conditions"], names)
        write_tables(folder, rows[:number])
        logger.info("%s: %s", name, ", ".join(f"{k} {v['value']:.4g}" for k, v in row["figures"].items()))
    return details, names, list(lost.values())


def _examine(
    judged: JudgedEncoder,
    conditions: Sequence[Condition],
    floor: Mapping[str, TaskPredictions] | None,
    recordings: Any,
    tell: Step,
) -> tuple[dict[str, Any], dict[str, Any]]:
    """A row of the table but for its conditions' means, and what is behind it."""
    benchmark = judged.benchmark
    tell("folds")
    figures: dict[str, Any] = {}
    fairness: dict[str, Any] = {}
    reports: dict[str, Any] = {}
    bootstrap = {"num_resamples": benchmark.num_resamples, "seed": benchmark.seed}
    for task in benchmark.tasks:
        others = None if floor is None else floor[task]
        figures |= figures_with_differences(judged.predictions(task), others, **bootstrap)
        fairness |= judged.groups(task)
        reports[task] = judged.report(task)
    outcomes: dict[str, Any] = {}
    lost: dict[str, str] = {}
    for condition in conditions:
        tell(condition.name)
        try:
            outcomes[condition.name] = judged.outcomes(condition, recordings)
        except InputError as error:  # hours of other conditions are not thrown away for it
            lost[condition.name] = str(error)
    judged.release()
    row = {
        "encoder": judged.config.name,
        "embedding_dim": judged.config.embedding_dim,
        "figures": figures,
        "fairness": {
            name: {key: found[key] for key in ("group", "differences", "speakers")} for name, found in fairness.items()
        },
    }
    return row, {"reports": reports, "conditions": outcomes, "lost": lost, "fairness": fairness}


@contextmanager
def _steps(total: int, progress: bool) -> Iterator[Step]:
    from tqdm import tqdm

    with tqdm(total=total, desc="compare", unit="pass", file=sys.stderr, disable=not progress) as bar:
        num_begun = 0

        def step(what: str) -> None:
            nonlocal num_begun
            bar.update(int(num_begun > 0))  # what was begun before is done
            bar.set_postfix_str(what)
            num_begun += 1
            if not progress:
                logger.info("%d of %d: %s", num_begun, total, what)

        yield step
        bar.update(int(num_begun > 0))


def _tell(step: Step, name: str, what: str) -> None:
    step(f"{name}: {what}")
