"""Encoders side by side, as one table: what each knows, what noise does to it, whom it serves worse, what it costs.

The same utterances, folds, conditions and resampled speakers for every row. `benchmark.py` holds what is judged by,
`judged_encoder.py` what one encoder is worth on it, `report.py` the files.
"""

import itertools
import logging
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from dino_speech.audio.banks import list_sounds
from dino_speech.audio.decoding import StrPath
from dino_speech.data.outputs import check_output
from dino_speech.data.resumable_store import ResumableStore, safe_name
from dino_speech.data.trials import Trials
from dino_speech.data.utterances import Manifest, Skipped
from dino_speech.errors import InputError
from dino_speech.evaluation.stress.conditions import Condition
from dino_speech.evaluation.stress.robustness import chosen_conditions
from dino_speech.provenance import provenance
from dino_speech.received_files import refuse_links_out
from dino_speech.studies.comparison.benchmark import BENCHMARK_OPTIONS, read_benchmark
from dino_speech.studies.comparison.encoder_names import FLOOR, Given, name_encoders, with_floor
from dino_speech.studies.comparison.judged_encoder import JudgedEncoder
from dino_speech.studies.comparison.report import (
    EncoderComparison,
    describe_comparison,
    summarise_outcomes,
    write_comparison,
    write_tables,
)

logger = logging.getLogger(__name__)

CHOICES = ("all", "quick", "none")
# ours: six families, one strength of each
QUICK = ("white_noise_10db", "gain_-20db", "low_pass_3400hz", "excerpt_50%", "speed_1.1", "room_0.6s")
Perturbations = str | Sequence[Condition | str]

Step = Callable[[str], None]  # called with what is done next
COST_OPTIONS = {"seconds": 10.0, "num_rounds": 5, "num_threads": None}


def compare_encoders(
    systems: Given,
    manifest: Manifest | StrPath,
    *,
    output_folder: StrPath,
    label: str | None = None,
    labels: Sequence[str] = (),
    trials: Trials | StrPath | None = None,
    floor: str = FLOOR,
    perturbations: Perturbations = "all",
    noise: StrPath | None = None,
    rir: StrPath | None = None,
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
        floor: which row the others are held against, by name; `fbank_stats` is added where it is missing.
        perturbations: "all" standard conditions, "quick" (six of them), "none"; or conditions, names or kinds.
        noise: folder or manifest of recorded backgrounds (see `standard_conditions`).
        rir: folder or manifest of room responses, instead of synthetic rooms.
        device: where encoders named by their places are put.
        resume: False computes every part anew.
        progress: show a bar on stderr.
        options: `group`, `speaker`, `num_folds`, `min_items`, `num_resamples` and `seed` as of `Benchmark`; for costs
            `seconds` (10), `num_rounds` (5) and `num_threads` as of `measure_efficiency`; all else for `embed_files`.

    Raises:
        InputError: a system that cannot be loaded, two of one name, no task, a missing column, an unknown condition:
            before anything is embedded; or what the evaluations refuse.
    """
    check_output(output_folder)
    tasks: dict[str, Any] = {"label": label, "labels": labels, "trials": trials}
    benchmark = read_benchmark(manifest, **tasks, **_taken(options, BENCHMARK_OPTIONS))
    encoders, floor = with_floor(name_encoders(systems), floor)
    folder, costs = Path(output_folder), COST_OPTIONS | _taken(options, COST_OPTIONS)
    kept = {name: ResumableStore(folder / "parts" / safe_name(name), reuse=resume) for name in encoders}
    conditions = choose_perturbations(perturbations, noise=noise, rir=rir)
    with _steps(len(encoders) * (3 + len(conditions)), progress) as step:
        judged = {}
        for name, source in encoders.items():
            step(f"{name}: cost")
            judged[name] = JudgedEncoder(benchmark, source, kept[name], device=device, options=options)
            judged[name].measure(**costs)
        return _compare(judged, floor, conditions, list_recordings(noise, rir), folder, step)


def _taken(options: dict[str, Any], names: Iterable[str]) -> dict[str, Any]:
    """Some of the options, which are taken out."""
    return {name: options.pop(name) for name in names if name in options}


def _compare(
    judged: Mapping[str, JudgedEncoder],
    floor: str,
    conditions: Sequence[Condition],
    recordings: Any,
    folder: Path,
    step: Step,
) -> EncoderComparison:
    """The comparison, with its files; the tables are written after each row."""
    refuse_links_out(folder)
    benchmark = judged[floor].benchmark
    skipped = _embed(judged, step)
    predictions = {task: judged[floor].predictions(task) for task in benchmark.tasks}
    rows: list[dict[str, Any]] = []
    details: dict[str, Any] = {}
    lost: dict[str, str] = {}
    for name, encoder in judged.items():
        others = None if name == floor else predictions
        figures, details[name] = encoder.examine(others, conditions, recordings, step, name)
        rows.append({"system": name, **figures})
        lost |= details[name]["lost"]
        for row in rows:
            counted = [condition.name for condition in conditions if condition.name not in lost]
            row["robustness"] = summarise_outcomes(details[row["system"]]["conditions"], counted)
        write_tables(folder, rows)
        logger.info("%s: %s", name, ", ".join(f"{k} {v['value']:.4g}" for k, v in figures["figures"].items()))
    names = [condition.name for condition in conditions if condition.name not in lost]
    notes = describe_comparison(benchmark, floor, names, len(skipped), rows[0]["efficiency"])
    notes += [f"Left out of the means of all systems: {reason}" for reason in lost.values()]
    origin = provenance(seed=benchmark.seed, manifest=benchmark.manifest.paths)
    found = EncoderComparison(rows, details, floor, names, skipped, notes, {}, origin)
    found.files.update(write_comparison(folder, found))
    return found


def _embed(judged: Mapping[str, JudgedEncoder], step: Step) -> list[Skipped]:
    """Embed the clean speech with every encoder, and leave out for all what one of them could not embed."""
    skipped: dict[str, Skipped] = {}
    for name, encoder in judged.items():
        step(f"{name}: clean")
        for item in encoder.clean.skipped:
            skipped.setdefault(item.name, Skipped(item.name, f"{name}: {item.reason}"))
        encoder.release()
    for encoder in judged.values():
        encoder.leave_out(skipped)
    return list(skipped.values())


@contextmanager
def _steps(total: int, progress: bool) -> Iterator[Step]:
    """A bar over the passes, or a line of the log for each."""
    from tqdm import tqdm

    numbers = itertools.count(1)
    with tqdm(total=total, desc="compare", unit="pass", file=sys.stderr, disable=not progress) as bar:

        def begin(what: str) -> None:
            number = next(numbers)
            bar.update(number - 1 - bar.n)  # what was begun before is done
            bar.set_postfix_str(what)
            if not progress:
                logger.info("%d of %d: %s", number, total, what)

        yield begin
        bar.update(total - bar.n)


def choose_perturbations(
    perturbations: Perturbations, *, noise: StrPath | None = None, rir: StrPath | None = None
) -> list[Condition]:
    """The conditions of one of `CHOICES`, or those named (InputError: unknown, twice); "quick" has noise at 10 dB."""
    if isinstance(perturbations, str) and perturbations not in CHOICES:
        raise InputError(
            f"perturbations is {perturbations!r}; expected {', '.join(CHOICES)}, or a list of names or kinds"
        )
    if perturbations == "none" or not len(perturbations):
        return []
    if perturbations == "quick":
        sounds = [] if noise is None else sorted({sound.kind for sound in list_sounds(noise)} - {"rir"})
        rooms = [name for name in QUICK if name.startswith("room")]
        perturbations = [*(name for name in QUICK if name not in rooms), *(rooms if rir is None else ["room"])]
        perturbations += [f"background_{kind}_10db" for kind in sounds]
    return chosen_conditions(None if isinstance(perturbations, str) else perturbations, noise=noise, rir=rir)


def list_recordings(*collections: StrPath | None) -> list[list[tuple[str, int]]]:
    """Name and bytes of each recording of each collection: what conditions depend on beside their parameters."""
    return [
        [] if one is None else [(sound.path.name, sound.path.stat().st_size) for sound in list_sounds(one)]
        for one in collections
    ]
