"""Trials: reading, names and paths, and balanced lists made from labels."""

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from dino_speech.data.manifest import Manifest, Utterance, read_manifest
from dino_speech.data.trials import Trials, make_trials, read_trials, resolve, write_trials
from dino_speech.errors import InputError


@pytest.fixture
def manifest(tmp_path: Path) -> Manifest:
    path = tmp_path / "pack" / "test.csv"
    path.parent.mkdir()
    path.write_text("ID,duration,wav\na,1,audio/a.wav\nb,1,audio/b.wav\nwith space,1,audio/c c.wav\n")
    return read_manifest(path)


@pytest.fixture
def write(tmp_path: Path) -> Callable[[str], Path]:
    def to_file(text: str) -> Path:
        path = tmp_path / "trials.txt"
        path.write_bytes(text.encode())
        return path

    return to_file


@pytest.mark.parametrize(
    "text",
    [
        "1 a b\n0 b a\n",
        "\ufeff1 a b\r\n0  b   a\r\n",
        "1\ta\tb\n\n0\tb\ta",
        "1 audio/a.wav audio/b.wav\n0 ./audio/b.wav audio/../audio/a.wav\n",
        "1 {folder}/audio/a.wav b\n0 {folder}/audio/b.wav a\n",
    ],
    ids=["ids", "bom and crlf", "tabs", "relative paths", "absolute paths"],
)
def test_names_are_ids_or_paths(text: str, write: Callable[[str], Path], manifest: Manifest) -> None:
    trials = read_trials(write(text.format(folder=Path(manifest.paths[0]).parent)))
    assert trials.labels.tolist() == [1, 0]
    assert trials.labels.dtype == np.int8
    enroll, test = resolve(trials, manifest)
    assert (enroll.tolist(), test.tolist()) == ([0, 1], [1, 0])


def test_names_with_spaces_survive_writing_and_reading(tmp_path: Path, manifest: Manifest) -> None:
    trials = Trials(np.array([1, 0], dtype=np.int8), ["a", "with space"], ["audio/c c.wav", "b"])
    again = read_trials(write_trials(trials, tmp_path / "made" / "trials.txt"))
    assert (again.enroll, again.test, again.labels.tolist()) == (trials.enroll, trials.test, [1, 0])
    assert [side.tolist() for side in resolve(again, manifest)] == [[0, 2], [2, 1]]
    plain = write_trials(Trials(np.array([1], dtype=np.int8), ["a"], ["b"]), tmp_path / "plain.txt")
    assert plain.read_text() == "1 a b\n"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "holds no trials; expected lines such as"),
        ("1 a b\n2 a b\n", r"line 2: found '2 a b'"),
        ("1 a b\n\n1 a\n", r"line 3: found '1 a'"),
        ("1 a with space\n", r"line 1: found '1 a with space'.*separate the fields by tabs"),
        ("a b target\n", r"line 1: found 'a b target'"),
    ],
)
def test_bad_lines_are_named(text: str, message: str, write: Callable[[str], Path]) -> None:
    with pytest.raises(InputError, match=rf"trials\.txt.*{message}"):
        read_trials(write(text))


def test_missing_file_and_unknown_names_are_named(
    tmp_path: Path, write: Callable[[str], Path], manifest: Manifest
) -> None:
    with pytest.raises(InputError, match="cannot be read"):
        read_trials(tmp_path / "none.txt")
    trials = read_trials(write("1 a b\n\n0 a x1\n0 x2 b\n"))
    with pytest.raises(InputError, match=r"line 4: enroll 'x2' is neither .*2 names are unknown: x2, x1\); use"):
        resolve(trials, manifest)
    with pytest.raises(InputError, match=r"line 3: test 'x1'"):
        resolve(read_trials(write("1 a b\n\n0 a x1\n")), manifest)


def test_a_file_with_segments_does_not_name_a_row(tmp_path: Path, write: Callable[[str], Path]) -> None:
    path = tmp_path / "test.csv"
    path.write_text("ID,duration,wav,start,stop\na,1,x.wav,0,16000\nb,1,x.wav,16000,32000\n")
    manifest = read_manifest(path)
    assert resolve(read_trials(write("1 a b\n")), manifest)[1].tolist() == [1]
    with pytest.raises(InputError, match=r"line 1: enroll 'x\.wav' is a file that several rows of .* share; use IDs"):
        resolve(read_trials(write("1 x.wav b\n")), manifest)


def test_paths_of_joined_manifests_are_found_in_either_folder(tmp_path: Path, write: Callable[[str], Path]) -> None:
    for pack in "ab":
        (tmp_path / pack).mkdir()
        (tmp_path / pack / "m.csv").write_text(f"ID,duration,wav\n{pack},1,only_{pack}.wav\n")
    both = read_manifest([tmp_path / "a" / "m.csv", tmp_path / "b" / "m.csv"])
    enroll, test = resolve(read_trials(write("0 only_a.wav only_b.wav\n")), both)
    assert (enroll.tolist(), test.tolist()) == ([0], [1])


def speakers(counts: dict[str, int], sexes: dict[str, str] | None = None) -> Manifest:
    rows = []
    for name, count in counts.items():
        labels = {"speaker": name} | ({"sex": sexes[name]} if sexes else {})
        rows += [Utterance(f"{name or 'unknown'}_{i}", f"/{name}/{i}.wav", 1.0, labels=labels) for i in range(count)]
    return Manifest(rows)


def test_made_trials_are_balanced_true_and_repeatable() -> None:
    manifest = speakers({"anna": 5, "ben": 3, "carl": 1, "": 20})
    trials = make_trials(manifest, seed=3)
    who = {u.id: u.labels["speaker"] for u in manifest}
    same = np.array([who[a] == who[b] for a, b in zip(trials.enroll, trials.test, strict=True)])
    assert np.array_equal(same, trials.labels == 1)
    assert same.sum() == 10 + 3  # every pair within a speaker is a target once
    assert len(trials) == 26
    assert all(who[name] for name in trials.enroll + trials.test)  # nobody knows who "" is
    assert len({frozenset(pair) for pair in zip(trials.enroll, trials.test, strict=True)}) == 26
    assert not any(a == b for a, b in zip(trials.enroll, trials.test, strict=True))
    again, other = make_trials(manifest, seed=3), make_trials(manifest, seed=4)
    assert (again.enroll, again.test) == (trials.enroll, trials.test)
    assert other.enroll != trials.enroll


def test_a_limit_takes_as_many_targets_from_each_speaker() -> None:
    trials = make_trials(speakers({"anna": 100, "ben": 10, "carl": 10}), max_trials=60)
    targets = Counter(e.split("_")[0] for e, label in zip(trials.enroll, trials.labels, strict=True) if label)
    assert targets == {"anna": 10, "ben": 10, "carl": 10}
    assert trials.labels.sum() == 30 == len(trials) // 2


def test_non_targets_are_of_one_sex_where_that_is_known() -> None:
    sexes = {"anna": "F", "bea": "F", "carl": "M", "dan": "M", "eve": ""}
    trials = make_trials(speakers(dict.fromkeys(sexes, 6), sexes), max_trials=60)
    pairs = [
        (sexes[a.split("_")[0]], sexes[b.split("_")[0]])
        for a, b, label in zip(trials.enroll, trials.test, trials.labels, strict=True)
        if not label
    ]
    assert len(pairs) == 30
    assert all(a == b for a, b in pairs if a)
    alone = make_trials(
        speakers({"anna": 6, "carl": 6}, sexes), max_trials=20
    )  # the only one of a sex meets the other sex
    assert len(alone) == 20


def test_too_few_speakers_are_refused() -> None:
    for counts in ({"anna": 5}, {"anna": 1, "ben": 1}, {"": 5}):
        with pytest.raises(InputError, match="at least two speakers, one of them with two utterances"):
            make_trials(speakers(counts))
    with pytest.raises(InputError, match="no column 'talker'"):
        make_trials(speakers({"a": 2, "b": 2}), label="talker")


@pytest.mark.corpus
def test_the_real_lists_resolve(data_root: Path) -> None:
    for pack, num in (("speakers_more", 3247), ("speakers_mixed", 2935), ("emotion_ravdess", 3000)):
        manifest = read_manifest(data_root / pack / "manifest.csv")
        trials = read_trials(data_root / pack / "trials_test.txt")
        enroll, test = resolve(trials, manifest)
        who = np.array(manifest.label("speaker"))
        assert len(trials) == num
        assert np.array_equal(who[enroll] == who[test], trials.labels == 1)
