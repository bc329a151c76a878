"""How differently a system serves single speakers: one figure each, and how much of their spread is mere chance.

Few utterances per speaker make figures differ even where the system treats all alike. So beside the deviation between
speakers stands the one that is left when predictions are exchanged between speakers, within one class at a time.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from dino_speech.errors import InputError
from dino_speech.plain_data import PlainData

NUM_EXCHANGES = 50
Rows = NDArray[np.int64]


@dataclass(frozen=True)
class SpeakerSpread(PlainData):
    """One figure per speaker, summed up.

    Attributes:
        num_speakers: that have a figure.
        num_left_out: that have too few utterances or trials for one.
        mean: over speakers.
        std: between speakers.
        std_if_equal: what remains of it when predictions are exchanged between speakers; NaN with fewer than two.
        min: lowest figure.
        max: highest figure.
        worst: names of the speakers served worst, at most five, the worst first.
        share_below_chance: of the speakers for whom the system does no better than guessing.
        values: speaker -> figure.
    """

    num_speakers: int
    num_left_out: int
    mean: float
    std: float
    std_if_equal: float
    min: float
    max: float
    worst: list[str]
    share_below_chance: float
    values: dict[str, float] = field(repr=False)


def speaker_spread(
    measure: Callable[[Rows], float],
    owners: NDArray,
    strata: NDArray,
    *,
    chance: float,
    higher_is_better: bool = True,
    min_items: int = 5,
    seed: int = 0,
) -> SpeakerSpread:
    """One figure per speaker; without a single speaker who has enough, all figures are NaN.

    Args:
        measure: rows of utterances (or trials) -> figure; raises `InputError` where they do not suffice for one.
        owners: (N,) the speaker of each.
        strata: (N,) what is kept when predictions are exchanged: the class, or the bin of a number.
        chance: the figure of guessing.
        higher_is_better: False for an EER.
        min_items: speakers with fewer are left out.
        seed: of the exchanges.
    """
    rng = np.random.default_rng(seed)
    names, codes = np.unique(owners, return_inverse=True)
    rows_of = {name: np.flatnonzero(codes == code) for code, name in enumerate(names.tolist())}
    found = dict(_figures(measure, {n: rows for n, rows in rows_of.items() if len(rows) >= min_items}))
    if not found:
        nothing = float("nan")
        return SpeakerSpread(0, len(names), nothing, nothing, nothing, nothing, nothing, [], nothing, {})
    values = np.array(list(found.values()))
    kept = {name: rows_of[name] for name in found}
    exchanged = []
    for order in (_exchange(strata, rng) for _ in range(NUM_EXCHANGES if len(found) > 1 else 0)):
        figures = _figures(measure, {name: order[rows] for name, rows in kept.items()})
        exchanged.append(np.std([figure for _, figure in figures]))
    direction = 1 if higher_is_better else -1
    ranked = np.argsort(direction * values, kind="stable")
    return SpeakerSpread(
        num_speakers=len(found),
        num_left_out=len(names) - len(found),
        mean=float(values.mean()),
        std=float(values.std()),
        std_if_equal=float(np.mean(exchanged)) if exchanged else float("nan"),
        min=float(values.min()),
        max=float(values.max()),
        worst=[list(found)[i] for i in ranked[:5]],
        share_below_chance=float(np.mean(direction * values <= direction * chance)),
        values=found,
    )


def _figures(measure: Callable[[Rows], float], rows_of: dict[str, Rows]) -> Iterator[tuple[str, float]]:
    for name, rows in rows_of.items():
        try:
            yield name, measure(rows)
        except InputError:
            continue


def _exchange(strata: NDArray, rng: np.random.Generator) -> Rows:
    """A permutation of all rows that moves each within its stratum."""
    order = np.arange(len(strata))
    for stratum in np.unique(strata):
        rows = np.flatnonzero(strata == stratum)
        order[rows] = rng.permutation(rows)
    return order
