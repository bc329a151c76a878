"""A table of mates as it is read and refused, what is said of it, and crops of which half are a mate's."""

from pathlib import Path

import numpy as np
import pytest
import torch

from dino_speech.audio.crops import MultiCrop
from dino_speech.data.loading.datasets import CropDataset
from dino_speech.data.loading.mates import Mates, load_mates, read_mates, write_mates
from dino_speech.data.manifest import read_manifest
from dino_speech.data.utterances import Manifest, Utterance
from dino_speech.errors import InputError


def people(*rows: tuple[str, str, str]) -> Manifest:
    """Utterances of (ID, speaker, recording)."""
    labels = ({"speaker": speaker, "recording": recording} for _, speaker, recording in rows)
    found = [Utterance(row[0], f"/{row[0]}.wav", 3.0, labels=one) for row, one in zip(rows, labels, strict=True)]
    return Manifest(found)


SIX = people(
    *(("a1", "a", "r1"), ("a2", "a", "r1"), ("a3", "a", "r2"), ("b1", "b", "r3"), ("b2", "b", "r4"), ("c1", "", ""))
)


def table(path: Path, *pairs: tuple[str, str]) -> Path:
    return write_mates([(one, other, 0.5) for one, other in pairs], path)


def test_a_table_is_read_as_written_and_rows_of_one_recording_or_of_strangers_are_left_out(tmp_path: Path) -> None:
    pairs = [("a1", "a3"), ("a3", "a1"), ("a1", "a2"), ("a1", "b1"), ("b2", "c1"), ("gone", "a1")]
    path = table(tmp_path / "mates.csv", *pairs)
    assert path.read_text().splitlines()[:2] == ["ID,mate,similarity", "a1,a3,0.5000"]
    assert read_mates(path) == pairs
    mates = load_mates(path, SIX)
    assert mates.pairs.tolist() == [[0, 2], [0, 3], [2, 0], [4, 5]]
    # Four pairs, two of them in both directions; of three with known speakers two are right, none of one recording.
    assert mates.figures(SIX) == pytest.approx({"coverage": 3 / 6, "reciprocity": 2 / 4, "useful_rate": 2 / 3})
    assert load_mates(path, SIX, within="speaker").pairs.tolist() == [[0, 2], [2, 0]]


def test_mates_by_label_are_others_with_it_in_other_recordings_and_are_named_a_control() -> None:
    mates = load_mates("label:speaker", SIX)
    assert mates.source == "label:speaker"
    assert sorted(map(tuple, mates.pairs.tolist())) == [(0, 2), (1, 2), (2, 0), (2, 1), (3, 4), (4, 3)]
    assert mates.figures(SIX)["useful_rate"] == 1.0
    many = load_mates("label:speaker", people(*((str(n), "a", str(n)) for n in range(40))))
    assert np.bincount(many.pairs[:, 0]).tolist() == [10] * 40


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("ID,similarity\na1,0.5\n", r"found columns ID, similarity; expected a table of mates"),
        ("ID,mate,similarity\na1,a3,1\na1,,1\n", r"row 3: found 'a1', ''; expected two IDs"),
        ("ID,mate,similarity\na1,a1,1\n", r"row 2: found 'a1', 'a1'"),
        ("ID,mate,similarity\nx,y,1\n", r"no pair is of two recordings .*dino-speech mates"),
    ],
)
def test_what_is_no_table_of_this_manifest_is_refused(text: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "mates.csv"
    path.write_text(text)
    with pytest.raises(InputError, match=message):
        load_mates(path, SIX)
    with pytest.raises(InputError, match="cannot be read"):
        load_mates(tmp_path / "absent.csv", SIX)
    with pytest.raises(InputError, match=r"no column 'speeker'; .*did you mean 'speaker'"):
        load_mates("label:speeker", SIX)


def test_half_the_views_are_the_mates_and_the_others_stay_what_they_were(all_voices: Path) -> None:
    manifest = read_manifest(all_voices / "manifest.csv")
    mates = Mates.of_pairs("table", np.array([[0, 7]]), len(manifest))
    crops = MultiCrop(num_long=2, long_s=0.4, num_short=3, short_s=0.2)
    plain, mixed = (CropDataset(manifest, crops, seed=3, mates=one, p_mate=1.0) for one in (None, mates))
    own, both = plain[(5, 0)], mixed[(5, 0)]
    assert both["index"] == 0
    assert torch.equal(both["long"][0], own["long"][0])
    assert torch.equal(both["short"][0], own["short"][0])
    wave = torch.from_numpy(_wave(manifest[7].wav))
    for view in (both["long"][1], both["short"][1], both["short"][2]):
        assert any(torch.equal(wave[start : start + len(view)], view) for start in range(len(wave) - len(view) + 1))
    assert torch.equal(mixed[(5, 1)]["long"], plain[(5, 1)]["long"]), "without a mate nothing changes"
    assert torch.equal(mixed[(5, 0)]["long"], both["long"]), "by the position alone"
    half = CropDataset(manifest, crops, seed=3, mates=mates, p_mate=0.5)
    swapped = [not torch.equal(half[(p, 0)]["long"], plain[(p, 0)]["long"]) for p in range(40)]
    assert 10 < sum(swapped) < 30


def _wave(path: str) -> np.ndarray:
    import soundfile

    return soundfile.read(path, dtype="float32")[0]


def test_a_mate_that_cannot_be_read_is_listed_and_the_views_stay(voices_folder: Path) -> None:
    manifest = read_manifest(voices_folder / "manifest.csv")
    (voices_folder / "spk1" / "3.wav").write_bytes(b"RIFF")
    mates = Mates.of_pairs("table", np.array([[0, 7]]), len(manifest))
    crops = MultiCrop(num_long=1, long_s=0.4, num_short=1, short_s=0.2)
    plain, mixed = (CropDataset(manifest, crops, seed=3, mates=one, p_mate=1.0) for one in (None, mates))
    found = mixed[(5, 0)]
    assert [index for index, _ in found["failures"]] == [7]
    assert torch.equal(found["short"], plain[(5, 0)]["short"])
