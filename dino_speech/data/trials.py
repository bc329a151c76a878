"""Verification trials: text lines `1 enroll test` (same speaker) and `0 enroll test`, and how to make them.

Enroll and test are IDs of a manifest, or paths of its audio. Names that hold spaces need tabs between the three fields.
"""

import os
from array import array
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dino_speech.data.atomic import write_text_atomically
from dino_speech.data.rows import MAX_LINE, bad_byte
from dino_speech.data.utterances import Manifest, list_some
from dino_speech.errors import InputError
from dino_speech.received_files import require_plain_file

FORM = "expected lines such as '1 enroll test' (same speaker) or '0 enroll test', with IDs or paths of the manifest"
MAX_TRIALS = 20_000  # ours: enough for an EER to a few tenths of a percent, scored in well under a second
MAX_DRAWS = 20  # how often another partner is drawn for a non-target before it is given up


@dataclass(frozen=True, slots=True, eq=False)
class Trials:
    """N trials: `labels` (N,) int8, 1 target (same speaker), 0 non-target; `enroll` and `test`, N IDs or paths each.

    `rows` are the lines of the trials in the file at `path`; empty where they were made here.
    """

    labels: NDArray[np.int8]
    enroll: list[str]
    test: list[str]
    path: str | None = None
    rows: Sequence[int] = ()

    def __len__(self) -> int:
        return len(self.labels)

    def subset(self, indices: Iterable[int]) -> "Trials":
        """The trials at these positions, in this order."""
        kept = list(indices)
        rows = [self.rows[i] for i in kept] if len(self.rows) else ()
        enroll, test = ([side[i] for i in kept] for side in (self.enroll, self.test))
        return Trials(self.labels[kept], enroll, test, self.path, rows)

    def place(self, index: int) -> str:
        """Where trial `index` stands, for messages."""
        where = f"line {self.rows[index]}" if len(self.rows) else f"number {index + 1}"
        return f"{self.path or 'trials'} {where}"


def read_trials(path: str | os.PathLike[str]) -> Trials:
    """Read a list of trials.

    Raises:
        InputError: the file is missing or holds no trial, or a line is not `1 enroll test` or `0 enroll test`; the
            message names the line.
    """
    labels, rows, enroll, test = bytearray(), array("q"), [], []
    names: dict[str, str] = {}  # a name that stands in thousands of trials is one object
    for row, line in enumerate(trial_lines(path, FORM), start=1):
        fields = [part.strip() for part in line.strip().split("\t")] if "\t" in line.strip() else line.split()
        if not fields:
            continue
        if len(fields) != 3 or fields[0] not in ("0", "1"):
            hint = "; separate the fields by tabs if names hold spaces" if len(fields) > 3 else ""
            raise InputError(f"{path} line {row}: found {line.strip()[:200]!r}; {FORM}{hint}")
        labels.append(fields[0] == "1")
        rows.append(row)
        enroll.append(names.setdefault(fields[1], fields[1]))
        test.append(names.setdefault(fields[2], fields[2]))
    if not labels:
        raise InputError(f"{path}: holds no trials; {FORM}")
    return Trials(np.frombuffer(labels, np.int8), enroll, test, os.fspath(path), rows)


def trial_lines(path: str | os.PathLike[str], form: str) -> Iterator[str]:
    """One after the other, as text: a list of millions is never in memory; `splitlines` would break names too."""
    try:
        require_plain_file(path)
        with Path(path).open(encoding="utf-8-sig") as file:
            yield from iter(partial(file.readline, MAX_LINE), "")
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); {form}") from error
    except UnicodeDecodeError as error:
        with Path(path).open("rb") as content:
            place = bad_byte(content)
        raise InputError(f"{path}: byte {place} is not UTF-8 text; {form}") from error


def write_trials(trials: Trials, path: str | os.PathLike[str]) -> Path:
    """Write a list of trials, with tabs where a name holds a space; returns its path.

    Raises:
        InputError: a name holds a tab or a line break, or spaces around it: no list can hold it.
    """
    spaced = [name for name in dict.fromkeys(chain(trials.enroll, trials.test)) if name.split() != [name]]
    for name in spaced:
        if not name or name != name.strip() or {*"\t\r\n"} & {*name}:
            raise InputError(f"{path}: the name {name!r} is empty, holds a tab or a line break, or spaces around it")
    separator = "\t" if spaced else " "
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    lines = zip(map(str, trials.labels.tolist()), trials.enroll, trials.test, strict=True)
    write_text_atomically(target, "".join(f"{separator.join(line)}\n" for line in lines))
    return target


def resolve(trials: Trials, manifest: Manifest) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Positions in the manifest of both sides of every trial: two int64 arrays (N,), enroll and test.

    A name is looked up among the IDs, then as a path: absolute, or relative to the folder of (any of) the manifest's
    files. InputError, naming the line: it is not in the manifest, or is a file that several rows share.
    """
    positions: dict[str, int | None] = {**manifest.by_id()}
    others = [name for name in dict.fromkeys(chain(trials.enroll, trials.test)) if name not in positions]
    if others:
        paths = manifest.by_path()
        folders = list(dict.fromkeys(os.path.dirname(path) for path in manifest.paths)) or [""]  # noqa: PTH120
        for name in others:
            spelled = (os.path.normpath(os.path.join(folder, name)) for folder in folders)  # noqa: PTH118
            positions[name] = next((paths[path] for path in spelled if path in paths), None)
    unknown = [name for name in others if positions[name] in (None, -1)]
    if unknown:
        side, names = next((s, n) for s, n in (("enroll", trials.enroll), ("test", trials.test)) if unknown[0] in n)
        place = trials.place(names.index(unknown[0]))
        if positions[unknown[0]] == -1:
            problem = f"{place}: {side} {unknown[0]!r} is a file that several rows of {manifest.name} share; use IDs"
            raise InputError(problem)
        raise InputError(
            f"{place}: {side} {unknown[0]!r} is neither an ID nor a path of {manifest.name} ({len(unknown)} names are"
            f" unknown: {list_some(unknown)}); use the manifest that the trials were made for, or correct the names"
        )
    sides = (trials.enroll, trials.test)
    enroll, test = (np.fromiter((positions[name] for name in side), np.int64, len(side)) for side in sides)
    return enroll, test


def trials_within(values: NDArray, enroll: NDArray, test: NDArray) -> dict[str, NDArray[np.int64]]:
    """Positions of the trials of a group, by group: those of which both sides, (T,) rows each, have the same value.

    `values` (N,) are the cells of a column; a blank is no group. A non-target of two groups would be an easy one.
    """
    same = np.where(values[enroll] == values[test], values[enroll], "")
    return {name: np.flatnonzero(same == name) for name in np.unique(same).tolist() if name}


def known_sides(
    manifest: Manifest, enroll: NDArray, test: NDArray, *, speaker: str = "speaker"
) -> tuple[NDArray, NDArray, NDArray] | None:
    """Names of speakers, sorted, and which of them is on either side of the trials; None where one is not known.

    Numbers, because the names themselves would take half a gigabyte for four million trials.
    """
    if speaker not in manifest.columns:
        return None
    names, numbers = np.unique(manifest.label(speaker), return_inverse=True)
    sides = numbers[enroll], numbers[test]
    blank = names[0] == "" and any((side == 0).any() for side in sides)
    alone = all((side == sides[0][0]).all() for side in sides)
    return None if blank or alone else (names, *sides)


def make_trials(manifest: Manifest, *, label: str = "speaker", seed: int = 0, max_trials: int = MAX_TRIALS) -> Trials:
    """As many targets as non-targets, together at most `max_trials`, drawn from the utterances whose speaker is known.

    Targets are pairs of two utterances of one speaker, the same number from each speaker as far as there are so many.
    Each target's enrolment side also gets a non-target partner: of the same `sex` where the manifest says (those are
    the hard ones), else of anyone.
    """
    speakers = np.array(manifest.label(label))
    known = np.flatnonzero(speakers != "")
    names = np.unique(speakers[known])
    by_speaker = {name: np.flatnonzero(speakers == name) for name in names.tolist()}
    if len(by_speaker) < 2 or max(map(len, by_speaker.values())) < 2:
        problem = f"{manifest.name}: column {label!r} names {len(by_speaker)} speakers in {known.size} labelled rows"
        raise InputError(f"{problem}; trials need at least two speakers, one of them with two utterances")
    rng = np.random.default_rng(seed)
    targets = _draw_targets(list(by_speaker.values()), max(1, max_trials // 2), rng)
    sexes = np.array(manifest.label("sex")) if "sex" in manifest.columns else np.full(len(manifest), "")
    others = _draw_non_targets(targets[:, 0], by_speaker, speakers, sexes, rng)
    pairs = np.concatenate([targets[: len(others)], others])
    labels = np.repeat(np.array([1, 0], dtype=np.int8), len(others))
    order = rng.permutation(len(pairs))
    ids = [utterance.id for utterance in manifest]
    return Trials(labels[order], [ids[i] for i in pairs[order, 0]], [ids[i] for i in pairs[order, 1]])


def _draw_targets(groups: list[NDArray[np.int64]], num: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Up to `num` different pairs (P, 2) within groups, in rounds: each group gives one pair per round while it can."""
    pairs, rounds = [], []
    for group in groups:
        num_pairs = len(group) * (len(group) - 1) // 2
        pair = rng.choice(num_pairs, size=min(num, num_pairs), replace=False) if num_pairs else np.zeros(0, np.int64)
        # Number the pairs i < j as 0: (0, 1), 1: (0, 2), 2: (1, 2), 3: (0, 3), ...
        j = ((1 + np.sqrt(1 + 8 * pair)) / 2).astype(np.int64)
        i = pair - j * (j - 1) // 2
        pairs.append(np.stack([group[i], group[j]], axis=1))
        rounds.append(np.arange(pair.size))
    order = np.lexsort((rng.random(sum(map(len, rounds))), np.concatenate(rounds)))
    return np.concatenate(pairs)[order[:num]]


def _draw_non_targets(
    enroll: NDArray[np.int64],
    groups: dict[str, NDArray[np.int64]],
    speakers: NDArray,
    sexes: NDArray,
    rng: np.random.Generator,
) -> NDArray[np.int64]:
    """An utterance of another speaker for each one of `enroll`, as different pairs (P, 2); P may be smaller."""
    everyone = list(groups)
    # Speakers are drawn, not utterances: one who spoke most of the files must not be in most of the trials.
    of_sex = {sex: [s for s in everyone if sexes[groups[s][0]] == sex] for sex in np.unique(sexes).tolist() if sex}
    of_sex = {sex: pool for sex, pool in of_sex.items() if len(pool) > 1}
    test = np.full(len(enroll), -1)
    for attempt in range(MAX_DRAWS):
        for trial in np.flatnonzero(test < 0):
            # The same sex first; anyone where it has no other speaker, or all its pairs are taken.
            pool = everyone if attempt >= MAX_DRAWS // 2 else of_sex.get(sexes[enroll[trial]], everyone)
            own = bisect_left(pool, speakers[enroll[trial]])
            other = rng.integers(len(pool) - 1)
            group = groups[pool[other + (other >= own)]]
            test[trial] = group[rng.integers(len(group))]
        low, high = np.minimum(enroll, test), np.maximum(enroll, test)
        first = np.zeros(len(enroll), dtype=bool)
        first[np.unique(low * len(speakers) + high, return_index=True)[1]] = True
        test[~first] = -1
        if (test >= 0).all():
            break
    return np.stack([enroll, test], axis=1)[test >= 0]
