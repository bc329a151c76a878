"""Rows are read one after the other, from files and URLs."""

import tracemalloc

import fsspec
import pytest

from dino_speech.data.manifest import read_manifest
from dino_speech.data.rows import ManifestRows
from dino_speech.errors import InputError

pytestmark = pytest.mark.usefixtures("memory_urls")


def write_rows(path, num):
    path.write_text("ID,duration,wav,speaker\n" + "".join(f"u{i},1.5,{i % 7}.wav,s{i % 3}\n" for i in range(num)))
    return path


def test_rows_are_those_of_the_manifest(voices_folder):
    path = voices_folder / "manifest.csv"
    rows = ManifestRows(path)
    assert list(rows) == list(read_manifest(path)) == list(rows)  # a second time too
    assert rows.columns == ("speaker", "emotion")
    assert [u.id for u in ManifestRows(path, where={"speaker": ["spk1", "spk2"], "emotion": "happy"})] == [
        *("spk1_1", "spk1_3", "spk2_1", "spk2_3")
    ]


@pytest.mark.slow
def test_memory_does_not_grow_with_the_file(tmp_path):
    peaks = []
    for num in (1_000, 50_000):
        rows = ManifestRows(write_rows(tmp_path / f"{num}.csv", num))
        tracemalloc.start()
        assert sum(1 for _ in rows) == num
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < peaks[0] + 100_000


def test_a_manifest_behind_a_url(tmp_path):
    system = fsspec.filesystem("memory")
    system.pipe("/rows/train.csv", write_rows(tmp_path / "a.csv", 3).read_bytes())
    manifest = read_manifest("memory://rows/train.csv")
    assert [u.wav for u in manifest] == [f"memory://rows/{i}.wav" for i in range(3)]
    assert manifest.path == "memory://rows/train.csv"
    with pytest.raises(InputError, match=r"memory://rows/none.csv: cannot be read"):
        read_manifest("memory://rows/none.csv")


@pytest.mark.slow
def test_a_bad_row_far_down_is_named(tmp_path):
    path = write_rows(tmp_path / "a.csv", 20_000)
    path.write_bytes(path.read_bytes() + b"u,1.5,\xff.wav,s\n")
    with pytest.raises(InputError, match=rf"byte {path.stat().st_size - 8} is not UTF-8"):
        list(ManifestRows(path))
    write_rows(path, 20_000).open("a").write("u,-1,a.wav,s\n")
    with pytest.raises(InputError, match=r"row 20002, column 'duration': found '-1'"):
        list(ManifestRows(path))
