"""A long manifest in little memory, whose rows are what they were."""

import copy
import dataclasses
import pickle
import tracemalloc

import numpy as np
import pytest

from dino_speech.data.packed.utterances import BLOCK, PackedUtterances, Utterance, pack
from dino_speech.data.utterances import Manifest
from dino_speech.errors import InputError


def corpus(num: int):
    """Rows as of VoxCeleb."""
    for i in range(num):
        name = f"id{i // 180:05d}/{i // 8 * 2_654_435_761 % 2**40:010x}/{i % 8:05d}"
        labels = {"speaker": f"id{i // 180:05d}", "sex": "fm"[i % 2], "language": "en"}
        yield Utterance(name, f"/corpora/voxceleb2/dev/{name}.wav", 4 + i / 7, None, None, labels, f"a.csv row {i + 2}")


def odd_rows() -> list[Utterance]:
    """All that differs from the usual, over and over."""
    odd = [
        Utterance("a", "https://host/b/a.wav?a=1", 1.5, 0, 16_000, {"x": ""}, "m.csv row 2"),
        Utterance("b/c.wav", "/folder/b/c.wav", 0.1 + 0.2, None, 5, {"y": "é", "x": "1"}, "b/c.wav"),
        Utterance("d", "/tar/shard-000000.tar#1536,48120", 2.0, 7, None, {}, "/tar/shard-000000.tar#1536,48120"),
        Utterance("e", "/folder/caf\udce9.wav", 3.0, origin="e row 007"),
        Utterance("f\x00g", "f\x00g", 3.0, origin=f"at {2**70}"),
        Utterance("", "/folder//", 1e-9, origin=""),
    ]
    rows = (
        dataclasses.replace(row, id=row.id * (i == 0) or f"{row.id}{i}") for i in range(BLOCK // 6 + 20) for row in odd
    )
    return list(rows)


@pytest.mark.slow
def test_rows_are_what_they_were_whatever_is_in_them():
    rows = odd_rows()
    packed = pack(iter(rows))
    assert isinstance(packed, PackedUtterances)
    assert len(packed) == len(rows)
    for found in (list(packed), list(pickle.loads(pickle.dumps(packed)))):
        assert found == rows
        assert [row.origin for row in found] == [row.origin for row in rows]
    some = range(0, len(rows), 53)
    assert [(packed[i], packed[i].origin) for i in some] == [(rows[i], rows[i].origin) for i in some]
    assert list(packed[::53]) == rows[::53]
    assert packed[-1] == rows[-1]
    assert all(type(part) in (int, type(None)) for part in packed[0].span[1:])
    with pytest.raises(IndexError):
        packed[len(rows)]
    drawn = np.random.default_rng(0).permutation(len(rows))
    for chosen in (drawn[:500], np.sort(drawn[:500]), drawn[:0]):
        assert list(packed.take(chosen)) == [rows[i] for i in chosen]
        assert list(packed.take(drawn).take(chosen)) == [rows[drawn[i]] for i in chosen]


@pytest.mark.slow
def test_a_row_of_a_long_manifest_takes_tens_of_bytes():
    num = BLOCK + 100
    tracemalloc.start()
    manifest = Manifest(corpus(num))
    num_bytes, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(manifest) == num
    assert num_bytes / num < 45  # as objects: 565


@pytest.mark.slow
def test_a_long_manifest_answers_as_a_short_one():
    rows = list(corpus(BLOCK + 100))
    manifest = Manifest(rows)
    assert manifest.columns == ("speaker", "sex", "language")
    assert manifest.label("speaker") == [row.labels["speaker"] for row in rows]
    assert manifest.duration_s == pytest.approx(sum(row.duration for row in rows))
    assert list(manifest.files[5:7]) == [row.wav for row in rows[5:7]]
    men = manifest.select(sex="m")
    assert list(men) == [row for row in rows if row.labels["sex"] == "m"]
    assert manifest.by_id()[rows[-1].id] == len(rows) - 1
    assert list(manifest[10:20]) == rows[10:20]
    with pytest.raises(InputError, match=r"'id00000/0000000000/00003' twice, in a.csv row 5 and a.csv row 99"):
        Manifest([*rows, dataclasses.replace(rows[3], origin="a.csv row 99")])
    with pytest.raises(InputError, match="twice"):
        manifest.subset([*range(BLOCK), 3])


def test_labels_of_a_long_manifest_refuse_to_be_changed_in_place():
    row = pack(corpus(BLOCK))[7]
    with pytest.raises(TypeError, match="cannot be changed in place; make a new one"):
        row.labels["sex"] = "x"
    with pytest.raises(TypeError, match="cannot be changed in place"):
        row.labels.update(sex="x")
    changed = dataclasses.replace(row, labels={**row.labels, "sex": "x"})
    assert changed.labels["sex"] == "x"
    assert type(copy.deepcopy(row).labels) is dict
