"""Folds: no speaker on both sides, classes spread, too little refused."""

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sklearn
from packaging.version import Version, parse
from sklearn.model_selection import StratifiedGroupKFold

from dino_speech.data.folds import (
    check_disjoint,
    check_recordings,
    check_speakers,
    group_folds,
    manifest_folds,
    overlapping,
    published_folds,
    speaker_folds,
)
from dino_speech.data.manifest import Manifest, Utterance, read_manifest
from dino_speech.errors import InputError


def acted(num_speakers: int = 9) -> tuple[list[str], list[str]]:
    """Each speaker says eight utterances in each of three emotions."""
    labels = [emotion for _ in range(num_speakers) for emotion in ("angry", "happy", "sad") for _ in range(8)]
    return labels, [f"s{i // 24}" for i in range(len(labels))]


def test_every_utterance_is_tested_once_and_no_speaker_is_on_both_sides() -> None:
    labels, speakers = acted()
    folds = speaker_folds(speakers, labels, num_folds=4, seed=1)
    assert sorted(np.concatenate([test for _, test in folds]).tolist()) == list(range(len(labels)))
    for train, test in folds:
        assert not {speakers[i] for i in train} & {speakers[i] for i in test}
        assert sorted([*train, *test]) == list(range(len(labels)))
        assert {labels[i] for i in test} == {labels[i] for i in train} == {"angry", "happy", "sad"}


def test_classes_are_spread_where_each_speaker_has_one_class() -> None:
    labels = ["ill"] * 30 + ["well"] * 31
    folds = speaker_folds([f"s{i}" for i in range(61)], labels, num_folds=5)
    assert [sum(labels[i] == "ill" for i in test) for _, test in folds] == [6] * 5


def test_same_seed_same_folds() -> None:
    first, again, other = (speaker_folds(*acted()[::-1], seed=seed) for seed in (0, 0, 1))
    assert all(np.array_equal(a[1], b[1]) for a, b in zip(first, again, strict=True))
    assert not all(np.array_equal(a[1], b[1]) for a, b in zip(first, other, strict=True))


@pytest.mark.skipif(parse(sklearn.__version__) < Version("1.8"), reason="there scikit-learn's shuffle was not right")
@pytest.mark.parametrize("seed", range(5))
def test_they_are_scikit_learns(seed: int) -> None:
    rng = np.random.default_rng(seed)
    classes, groups = rng.integers(3, size=200), rng.integers(40, size=200)
    theirs = StratifiedGroupKFold(n_splits=4, shuffle=True, random_state=seed).split(classes, classes, groups)
    for ours, wanted in zip(group_folds(classes, groups, num_folds=4, seed=seed), theirs, strict=True):
        assert [part.tolist() for part in ours] == [part.tolist() for part in wanted]


@pytest.mark.parametrize(
    ("labels", "speakers", "message"),
    [
        (["a", "b"] * 4, list("wwxxyyzz"), "4 speakers cannot make 5 .* use num_folds between 2 and 4"),
        (["a"] * 8, list("stuvwxyz"), "all 8 utterances are 'a'"),
        ([*("a" * 7), "b"], list("stuvwxyz"), "class 'b': all utterances are of one speaker"),
        (["a", "b", "", "b", "a", "b"], list("uvwxyz"), "1 utterances have a blank label"),
        (["a", "b", "a", "b", "a", "b"], ["", *"vwxyz"], "1 utterances have a blank speaker"),
        (list("aabbcc"), list("uvwxyz"), "the largest class has 2 utterances, too few for 5 folds"),
        (["a"], ["s", "t"], "one speaker per label"),
        ([], [], "one speaker per label, at least one"),
    ],
)
def test_too_little_is_refused(labels: list[str], speakers: list[str], message: str) -> None:
    with pytest.raises(InputError, match=message):
        speaker_folds(speakers, labels, num_folds=5)


def test_as_few_as_will_do() -> None:
    assert len(speaker_folds(list("uvwxy"))) == 5
    assert len(speaker_folds(list("uv"), num_folds=2)) == 2
    assert len(speaker_folds(list("uvwx"), list("aabb"), num_folds=2)) == 2
    with pytest.raises(InputError, match="2 speakers cannot make 1 speaker-disjoint folds"):
        speaker_folds(list("uv"), num_folds=1)


def test_the_first_shuffle_that_holds_every_class_is_taken_and_none_is_refused() -> None:
    found = speaker_folds(list("uuuvw"), list("abaab"), num_folds=2)  # the third
    assert [test.tolist() for _, test in found] == [[3, 4], [0, 1, 2]]
    with pytest.raises(
        InputError, match="no 2 speaker-disjoint folds found whose training parts all hold class b; use"
    ):
        speaker_folds(list("vwuu"), list("baab"), num_folds=2)


def test_a_rare_class_is_in_every_training_part() -> None:
    labels = ["often"] * 60 + ["rare"] * 2
    speakers = [f"s{i % 10}" for i in range(60)] + ["r1", "r2"]
    for seed in range(10):
        for train, _ in speaker_folds(speakers, labels, seed=seed):
            assert "rare" in {labels[i] for i in train}


def test_inner_folds_take_what_there_is() -> None:
    classes, groups = np.array(["a"] * 6 + ["b"] * 2), np.array([*list("uvwxyz"), "b1", "b1"])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        folds = group_folds(classes, groups, num_folds=3, seed=0)
    for train, test in folds:
        assert not set(groups[train]) & set(groups[test])


@pytest.fixture
def people(tmp_path: Path) -> Manifest:
    """Six utterances of four speakers; folds "2", "10" and "x", one that splits a speaker, one of a single value."""
    header, rows = "ID,duration,wav,speaker,mood,fold,leak,same,gap", []
    for number, (who, mood, fold) in enumerate(zip("uuvwxx", "abaabb", ["2", "2", "10", "x", "x", "x"], strict=True)):
        rows.append(f"{number},1,{number}.wav,{who},{mood},{fold},{'ab'[number % 2]},1,{'1' if number else ''}")
    (tmp_path / "m.csv").write_text("\n".join([header, *rows]) + "\n")
    return read_manifest(tmp_path / "m.csv")


def test_folds_of_a_manifest(people: Manifest) -> None:
    found = manifest_folds(people, column="fold")
    assert list(found) == ["x", "2", "10"]  # words first, then numbers as numbers
    assert [(train.tolist(), test.tolist()) for train, test in found.values()] == [
        ([0, 1, 2], [3, 4, 5]),
        ([2, 3, 4, 5], [0, 1]),
        ([0, 1, 3, 4, 5], [2]),
    ]
    for options in (
        {"num_folds": 2, "stratify": "mood"},
        {"num_folds": 2, "stratify": "mood", "seed": 3},
        {"num_folds": 3},
    ):
        classes = people.label("mood") if "stratify" in options else None
        expected = speaker_folds(
            people.label("speaker"), classes, num_folds=options["num_folds"], seed=options.get("seed", 0)
        )
        drawn = manifest_folds(people, **options)
        assert list(drawn) == ["1", "2", "3"][: options["num_folds"]]
        for ours, theirs in zip(drawn.values(), expected, strict=True):
            assert [part.tolist() for part in ours] == [part.tolist() for part in theirs]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "give either a column of folds"),
        ({"num_folds": 2, "column": "fold"}, "give either a column of folds"),
        ({"column": "leak"}, "both sides of the split"),
        ({"column": "same"}, "holds the one fold"),
        ({"column": "gap"}, "column 'gap' is blank in 1 of 6 rows"),
        ({"num_folds": 2, "speaker": "gap"}, "column 'gap' is blank in 1 of 6 rows"),
        ({"num_folds": 2, "stratify": "gap"}, "column 'gap' is blank in 1 of 6 rows"),
    ],
)
def test_folds_of_a_manifest_that_are_none(people: Manifest, options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        manifest_folds(people, **options)


def test_a_leak_is_named() -> None:
    check_disjoint(["a", "b", ""], ["c", ""])
    with pytest.raises(InputError, match=r"2 speakers are on both sides of the split \(b, c\)"):
        check_disjoint(["a", "b", "c"], ["c", "b", "d"])


def test_folds_as_published() -> None:
    rows = [
        Utterance(f"u{i}", f"/{i}.wav", 1.0, labels={"fold": cell}) for i, cell in enumerate(["10", "2", "train", "2"])
    ]
    folds = published_folds(Manifest(rows), "fold")
    assert {name: [part.tolist() for part in fold] for name, fold in folds.items()} == {
        "2": [[0, 2], [1, 3]],
        "10": [[1, 2, 3], [0]],
    }
    for number in (0, 2):
        with pytest.raises(InputError, match="holds the one fold"):
            published_folds(Manifest([rows[number]]), "fold")


def spans(*bounds: tuple[int | None, int | None], wav: str = "/a.wav", name: str = "u") -> Manifest:
    return Manifest(Utterance(f"{name}{i}", wav, 1.0, *span) for i, span in enumerate(bounds))


@pytest.mark.parametrize(
    ("heard", "judged", "found"),
    [
        ([(None, None)], [(100, 200)], ["u0"]),  # a whole file, and a part of it
        ([(100, 200)], [(None, None)], ["u0"]),
        ([(100, None)], [(0, 100), (99, 120), (500, 600)], ["u1", "u2"]),
        ([(100, 200)], [(200, 300), (0, 100)], []),  # spans that touch have no sample in common
        ([(0, 1000), (10, 20), (30, 40)], [(500, 600), (1000, 1100)], ["u0"]),  # behind shorter ones that began later
    ],
)
def test_speech_is_shared_where_spans_overlap(heard: list, judged: list, found: list[str]) -> None:
    assert overlapping(spans(*heard, name="x"), spans(*judged)) == found
    assert overlapping(spans(*heard, wav="/b.wav"), spans(*judged)) == []
    if found:
        with pytest.raises(InputError, match=f"{len(found)} recordings of manifest also stand in manifest, whole or"):
            check_recordings(spans(*heard), spans(*judged))


def test_overlaps_are_those_of_comparing_all_with_all() -> None:
    rng = np.random.default_rng(0)
    for _ in range(20):
        sides = [[sorted(rng.choice(60, 2, replace=False).tolist()) for _ in range(6)] for _ in range(2)]
        wanted = [f"u{i}" for i, (a, b) in enumerate(sides[1]) if any(c < b and a < d for c, d in sides[0])]
        assert overlapping(spans(*map(tuple, sides[0])), spans(*map(tuple, sides[1]))) == wanted


def named(column: str, *names: str) -> Manifest:
    return Manifest(Utterance(f"{name}{i}", f"/{i}", 1.0, labels={column: name}) for i, name in enumerate(names))


def test_speakers_are_compared_by_the_column_that_is_named() -> None:
    one, other = named("person", "a", "b"), named("person", "b", "c")
    with pytest.raises(InputError, match=r"1 speakers are on both sides of the split \(b\)"):
        check_speakers(one, other, "emotion", speaker="person")
    with pytest.raises(InputError, match=r"no column 'persn'.*did you mean 'person'"):
        check_speakers(one, other, "emotion", speaker="persn")
    assert check_speakers(one, other, "person", speaker="person") == []  # they are what is learnt
    assert check_speakers(one, named("person", "c", "d"), "emotion", speaker="person") == []


def test_what_could_not_be_compared_is_said() -> None:
    known, blank, none = named("speaker", "a"), named("speaker", "b", ""), named("other", "c")
    (said,) = check_speakers(known, blank)
    assert said.startswith("manifest: column 'speaker' is blank in 1 of 2 rows: whether its speakers are also on the")
    assert check_speakers(known, none)[0].startswith("manifest has no column 'speaker': whether its speakers")


def test_published_folds_need_the_column_that_is_named() -> None:
    rows = Manifest(
        Utterance(f"u{i}", f"/{i}", 1.0, labels={"fold": str(i % 2), "person": "ab"[i // 3]}) for i in range(6)
    )
    with pytest.raises(InputError, match="are on both sides"):
        manifest_folds(rows, column="fold", speaker="person")
    with pytest.raises(InputError, match="no column 'persons'"):
        manifest_folds(rows, column="fold", speaker="persons")
