"""What the systems of a cell said, as the figures of the cell: UAR and F1 of classes, CCC of dimensions."""

from collections.abc import Mapping, Sequence

from dino_speech.evaluation.probing.classification import ClassificationReport
from dino_speech.evaluation.probing.finetuned import Judged, pooled_report
from dino_speech.intervals import Interval
from dino_speech.studies.grid import CellResult

FIGURES = ("uar", "micro_f1", "macro_f1")


def cell_of(parts: Mapping[str, Sequence[Judged]], *, seed: int) -> CellResult:
    """Figures of all folds together, with intervals over speakers.

    Args:
        parts: by corpus what each fold's system said; "" is the one that was trained on, whose figures have plain
            names. Those of another corpus end in its name, and of classes there is only the UAR.
        seed: of the bootstrap.
    """
    figures: dict[str, float] = {}
    intervals: dict[str, tuple[float, float]] = {}
    for corpus, judged in parts.items():
        suffix = f"_{corpus}" if corpus else ""
        report = pooled_report(judged, provenance={}, num_folds=len(judged), seed=seed)
        if isinstance(report, ClassificationReport):
            names = FIGURES[:1] if corpus else FIGURES
            figures |= {f"{name}{suffix}": float(getattr(report, name)) for name in names}
            found = {f"uar{suffix}": report.intervals["uar"]}
        else:
            figures |= {f"ccc_{name}{suffix}": float(value) for name, value in report.ccc.items()}
            found = {f"ccc_{name}{suffix}": interval for name, interval in report.intervals.items()}
        intervals |= known_bounds(found)
    return CellResult(figures, intervals)


def known_bounds(intervals: Mapping[str, Interval]) -> dict[str, tuple[float, float]]:
    """Low and high bound by name, of those that are known."""
    return {name: (one.low, one.high) for name, one in intervals.items() if one.is_known}
