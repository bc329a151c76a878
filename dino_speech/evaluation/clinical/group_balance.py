"""Whether two groups of `P` people differ in age and sex: if so, a voice may tell these and not the illness."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dino_speech.data.utterances import Manifest
from dino_speech.plain_data import PlainData

NOTEWORTHY = 0.25  # standardised difference; Stuart, Statistical Science 25 (2010), Sec. 5.2 and the works named there
SIGNIFICANT = 0.05
FEMALE, MALE = {"f", "female", "w", "woman"}, {"m", "male", "man"}


@dataclass(frozen=True, eq=False)
class PeopleTable:
    """What is known of people beside their class."""

    names: list[str]
    positive: NDArray[np.bool_]  # (P,) class
    age: NDArray[np.float64]  # (P,) years, NaN where unknown; of several rows the mean
    female: NDArray[np.float64]  # (P,) 1 or 0, NaN where unknown


def people_table(
    manifest: Manifest, names: Sequence[str], positive: NDArray[np.bool_], *, subject: str, age: str, sex: str
) -> PeopleTable:
    """Age and sex of people, from the columns `age` and `sex` where the manifest has them."""
    found: dict[str, dict[str, list[float]]] = {name: {"age": [], "female": []} for name in names}
    readers = {"age": (age, _years), "female": (sex, _is_female)}
    for key, (column, read) in readers.items():
        if column in manifest.columns:
            for person, cell in zip(manifest.label(subject), manifest.label(column), strict=True):
                if person in found:
                    found[person][key].append(read(cell))
    columns = (np.array([_known_mean(found[name][key]) for name in names]) for key in readers)
    return PeopleTable(list(names), np.asarray(positive, dtype=bool), *columns)


@dataclass(frozen=True)
class Imbalance(PlainData):
    """How two classes differ in one thing: mean age, or share of women."""

    positive: float  # of this class; NaN where nothing is known
    negative: float
    num_known: tuple[int, int]  # (positive, negative) people of whom it is known
    standardized: float  # difference in units of the pooled deviation; NaN where it cannot be told
    p: float  # Welch's t-test (age), chi-squared without correction (sex); NaN likewise
    noteworthy: bool  # the classes differ by more than `NOTEWORTHY`, or significantly


def age_difference(people: PeopleTable) -> Imbalance | None:
    """Ages of the classes; None where no age is known."""
    from scipy.stats import ttest_ind

    groups = _groups(people, people.age)
    if not any(group.size for group in groups):
        return None
    variances = [group.var(ddof=1) if group.size > 1 else math.nan for group in groups]
    testable = np.isfinite(variances).all() and any(variances)
    p = float(ttest_ind(*groups, equal_var=False).pvalue) if testable else math.nan
    return _difference(groups, math.sqrt(sum(variances) / 2), p)


def sex_difference(people: PeopleTable) -> Imbalance | None:
    """Shares of women in the classes; None where no sex is known."""
    from scipy.stats import chi2_contingency

    groups = _groups(people, people.female)
    if not any(group.size for group in groups):
        return None
    counts = np.array([[group.sum(), group.size - group.sum()] for group in groups])
    testable = (counts.sum(axis=0) > 0).all() and (counts.sum(axis=1) > 0).all()
    p = float(chi2_contingency(counts, correction=False).pvalue) if testable else math.nan
    shares = [_known_mean(group) for group in groups]
    return _difference(groups, math.sqrt(sum(share * (1 - share) for share in shares) / 2), p)


def fold_rows(people: PeopleTable, folds: Sequence[str], names: Mapping[bool, str]) -> list[dict[str, Any]]:
    """One row per fold and class, called by `names`: how many people were judged, their mean age, share of women."""
    rows = []
    for fold in dict.fromkeys(folds):
        for positive in (True, False):
            chosen = (np.array(folds) == fold) & (people.positive == positive)
            row: dict[str, Any] = {"fold": fold, "class": names[positive], "people": int(chosen.sum())}
            for key, values in (("mean_age", people.age), ("share_female", people.female)):
                mean = _known_mean(values[chosen])
                row[key] = None if math.isnan(mean) else mean
            rows.append(row)
    return rows


def _difference(groups: tuple[NDArray, NDArray], deviation: float, p: float) -> Imbalance:
    positive, negative = (_known_mean(group) for group in groups)
    standardized = (positive - negative) / deviation if deviation > 0 else math.nan
    noteworthy = bool(abs(standardized) > NOTEWORTHY or p < SIGNIFICANT)
    return Imbalance(positive, negative, (groups[0].size, groups[1].size), standardized, p, noteworthy)


def _groups(people: PeopleTable, values: NDArray) -> tuple[NDArray, NDArray]:
    known = np.isfinite(values)
    return values[known & people.positive], values[known & ~people.positive]


def _known_mean(values: "Sequence[float] | NDArray") -> float:
    known = [value for value in values if math.isfinite(value)]
    return float(np.mean(known)) if known else math.nan


def _years(cell: str) -> float:
    try:
        return float(cell)
    except ValueError:
        return math.nan


def _is_female(cell: str) -> float:
    text = cell.strip().lower()
    return 1.0 if text in FEMALE else 0.0 if text in MALE else math.nan
