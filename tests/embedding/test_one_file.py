"""Embeddings in one file: what the name says is written, and read back to the bit."""

import csv
import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest

from dino_speech import load_encoder
from dino_speech.embedding.one_file import FORMATS, check_format, write_file
from dino_speech.embedding.parts_on_disk import read_embeddings
from dino_speech.embedding.to_disk import embed_to_file
from dino_speech.errors import InputError, UsageError
from dino_speech.models.embed_files import Embeddings

HAS_PYARROW = importlib.util.find_spec("pyarrow") is not None
BEGINNINGS = {".npz": b"PK", ".csv": b"ID,embedding_0,", ".parquet": b"PAR1"}


@pytest.fixture
def found() -> Embeddings:
    """Numbers of all sizes, and names that a table may trip over."""
    rng = np.random.default_rng(0)
    rows = (rng.standard_normal((5, 3)) * 10.0 ** rng.integers(-30, 30, (5, 3))).astype(np.float32)
    return Embeddings(["a.wav", "=1+1", "'quoted", 'x,"y"', "caf\\xe9 \n"], rows, [])


@pytest.mark.parametrize("suffix", FORMATS)
def test_the_name_says_what_is_written(tmp_path: Path, found: Embeddings, suffix: str) -> None:
    if suffix == ".parquet" and not HAS_PYARROW:
        pytest.skip("needs the extra dino-speech[parquet]")
    path = tmp_path / f"found{suffix.upper()}"
    write_file(path, found)
    assert path.read_bytes().startswith(BEGINNINGS[suffix])
    again = read_embeddings(path)
    assert again.ids == found.ids
    assert again.embeddings.dtype == np.float32
    np.testing.assert_array_equal(again.embeddings, found.embeddings)


def test_a_csv_is_inert_and_any_program_reads_it(tmp_path: Path, found: Embeddings) -> None:
    write_file(tmp_path / "found.csv", found)
    with (tmp_path / "found.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["ID"] for row in rows][:3] == ["a.wav", "'=1+1", "'quoted"]
    assert float(rows[0]["embedding_2"]) == pytest.approx(float(found.embeddings[0, 2]), rel=1e-8)


@pytest.mark.parametrize("name", ["x.txt", "x", "x.npy", "results.v2"])
def test_another_ending_is_refused_before_the_work(tmp_path: Path, name: str) -> None:
    with pytest.raises(UsageError, match=r"expected a name in \.npz, \.csv, \.parquet, or a folder of parts: .*/$"):
        embed_to_file([tmp_path / "not-there"], load_encoder("fbank_stats"), tmp_path / name)


def test_parquet_without_pyarrow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)  # as where it is not installed
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    cure = r"pip install 'dino-speech\[parquet\]', or take \.npz or \.csv"
    with pytest.raises(InputError, match=cure):
        check_format(tmp_path / "x.parquet")


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "found the columns none; expected ID, embedding_0"),
        ("ID,wav\na,b\n", "found the columns ID, wav; expected ID"),
        ("ID,embedding_0\na,1\nb,one\n", "row 3: could not convert string to float: 'one'"),
        ("ID,embedding_0\na,1,2\n", "row 2: 3 cells; expected 2"),
    ],
)
def test_a_table_of_something_else(tmp_path: Path, text: str, problem: str) -> None:
    path = tmp_path / "x.csv"
    path.write_text(text)
    with pytest.raises(InputError, match=f"x.csv: no embeddings .*{problem}.*give what `dino-speech embed` wrote"):
        read_embeddings(path)
    if HAS_PYARROW:
        path.rename(tmp_path / "x.parquet")
        with pytest.raises(InputError, match="no embeddings"):
            read_embeddings(tmp_path / "x.parquet")
