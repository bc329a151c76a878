"""A piece is made once for what it depends on, whole or not at all."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dino_speech.data.resumable_store import ResumableStore, name_with_hash, read_or_make, safe_name


class Maker:
    """Counts how often it is asked."""

    def __init__(self, piece: Any) -> None:
        self.piece, self.calls = piece, 0

    def __call__(self) -> Any:
        self.calls += 1
        return self.piece


def test_a_piece_is_made_once_for_what_it_depends_on(tmp_path: Path) -> None:
    numbers, arrays = Maker({"eer": 12.5}), Maker({"x": np.arange(3.0)})
    for _ in range(2):
        store = ResumableStore(tmp_path / "new" / "parts", {"weights": "abc"})
        assert store.data("eer of a/b", ["trials", 3], numbers) == {"eer": 12.5}
        np.testing.assert_array_equal(store.arrays("clean", None, arrays)["x"], [0, 1, 2])
    assert (numbers.calls, arrays.calls) == (1, 1)
    store.data("eer of a/b", ["trials", 4], numbers)  # other trials
    ResumableStore(store.folder, {"weights": "abd"}).data("eer of a/b", ["trials", 4], numbers)  # other weights
    ResumableStore(store.folder, {"weights": "abc"}, reuse=False).arrays("clean", None, arrays)
    assert (numbers.calls, arrays.calls) == (3, 2)
    assert len(list(store.folder.iterdir())) == 4  # and no temporary file


def test_another_code_makes_all_pieces_anew_and_says_so_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    make = Maker(1)
    ResumableStore(tmp_path).data("one", None, make)
    assert not caplog.messages
    monkeypatch.setattr("dino_speech.data.resumable_store.code_digest", lambda: "99" * 32)
    for _ in range(2):
        ResumableStore(tmp_path).data("one", None, make)
    ResumableStore(tmp_path).data("two", None, make)  # which no other code has made
    assert make.calls == 3
    (said,) = caplog.messages
    assert said.startswith("one_")
    assert said.endswith("computed anew, because the code of dino_speech has changed since it was kept")


def test_a_damaged_piece_is_made_again_and_a_failed_one_leaves_nothing(tmp_path: Path) -> None:
    make = Maker({"x": np.zeros(2)})
    store = ResumableStore(tmp_path)
    store.arrays("clean", None, make)
    (path,) = tmp_path.iterdir()
    path.write_bytes(path.read_bytes()[:40])
    np.testing.assert_array_equal(store.arrays("clean", None, make)["x"], np.zeros(2))
    assert make.calls == 2
    with pytest.raises(TypeError):
        read_or_make(tmp_path / "no.json", lambda: object())
    assert not (tmp_path / "no.json").exists()


def test_names_can_stand_in_a_path() -> None:
    assert safe_name("a/b c:é.1_2-3") == "a-b-c-é.1_2-3"
    assert len(safe_name("x" * 200)) == 80
    assert name_with_hash("a/b", {"y": 1, "x": 2}) == name_with_hash("a/b", {"x": 2, "y": 1})
    assert name_with_hash("a/b", 1, digits=8) != name_with_hash("a/b", 2, digits=8)
