"""A few utterances in the layout of VoxCeleb1 and VoxCeleb2, with lists and metadata as their owners write them."""

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile

from dino_speech.data.corpora.preparing import prepare
from dino_speech.data.manifest import read_manifest
from dino_speech.data.trials import read_trials, resolve
from dino_speech.errors import InputError

Tone = Callable[..., np.ndarray]
META_1 = "VoxCeleb1 ID\tVGGFace1 ID\tGender\tNationality\tSet"
META_2 = "VoxCeleb2 ID ,VGGFace2 ID ,Gender ,Set"
VIDEO = "x6uYqmx31kE"


def _write(file: Path, wave: np.ndarray) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(file, wave, 16_000)


@pytest.fixture
def voxceleb1(tmp_path: Path, tone: Tone) -> Path:
    """Two dev and two test speakers of two files each, in the two unpacked archives; the lists lie beside them."""
    source = tmp_path / "VoxCeleb1"
    for archive, speakers in (("vox1_dev_wav", (10001, 10002)), ("vox1_test_wav", (10270, 10271))):
        for speaker in speakers:
            for number in (1, 2):
                wave = tone(1.0 + number, hz=speaker % 97 + 100.0)
                _write(source / archive / "wav" / f"id{speaker}" / VIDEO / f"{number:05}.wav", wave)
    rows = [
        "id10001\tA.J._Buckley\tm\tIreland\tdev\nid10002\tA.R._Rahman\tm\tIndia\tdev\nid10270\tEartha_Kitt\tf\tUSA\ttest"
    ]
    (source / "vox1_meta.csv").write_text("\n".join([META_1, *rows, "id10271\tEbon_Moss\tm\tUSA\ttest"]) + "\n")
    return source


def _name(speaker: int, number: int) -> str:
    return f"id{speaker}/{VIDEO}/{number:05}.wav"


def test_manifest_has_labels_from_the_metadata(voxceleb1: Path, tmp_path: Path) -> None:
    summary = prepare("voxceleb1", voxceleb1, tmp_path / "out")
    manifest = read_manifest(tmp_path / "out" / "manifest.csv", must_exist=True)
    assert (summary["num_utterances"], summary["num_speakers"]) == (8, 4)
    assert (summary["num_official_utterances"], summary["num_official_speakers"]) == (153_516, 1_251)
    first = manifest[manifest.by_id()[_name(10270, 2)]]
    assert first.duration == pytest.approx(3.0)
    assert first.labels == {
        "speaker": "id10270",
        "recording": VIDEO,
        "sex": "F",
        "nationality": "USA",
        "split": "test",
    }
    assert len(read_manifest(tmp_path / "out" / "manifest.csv", where={"split": "dev"})) == 4
    assert summary["missing"] == summary["extra"] == summary["unreadable"] == []
    assert not (tmp_path / "out" / "missing.txt").exists()


def test_split_without_metadata(voxceleb1: Path, tmp_path: Path) -> None:
    (voxceleb1 / "vox1_meta.csv").unlink()
    prepare("voxceleb1", voxceleb1, tmp_path / "out")
    manifest = read_manifest(tmp_path / "out" / "manifest.csv")
    assert {(u.labels["speaker"], u.labels["split"]) for u in manifest} == {
        ("id10001", "dev"),
        ("id10002", "dev"),
        ("id10270", "test"),
        ("id10271", "test"),
    }


@pytest.mark.slow
def test_a_complete_official_list_is_used_as_it_is(voxceleb1: Path, tmp_path: Path) -> None:
    target, other = f"1 {_name(10270, 1)} {_name(10270, 2)}", f"0 {_name(10270, 1)} {_name(10271, 2)}"
    lines = [target, other] * 18_805 + [other]  # as many as the cleaned list O has
    (voxceleb1.parent / "veri_test2.txt").write_text("\n".join(lines) + "\n")
    summary = prepare("voxceleb1", voxceleb1, tmp_path / "out")
    assert summary["trials"] == {"trials_O.txt": 37_611}
    trials = read_trials(tmp_path / "out" / "trials_O.txt")
    enroll, test = resolve(trials, read_manifest(tmp_path / "out" / "manifest.csv"))
    assert len(enroll) == len(test) == 37_611
    assert trials.labels.sum() == 18_805
    # The owners' own file works too: the IDs are its names.
    resolve(read_trials(voxceleb1.parent / "veri_test2.txt"), read_manifest(tmp_path / "out" / "manifest.csv"))


def test_absent_audio_makes_a_list_partial_and_is_named(voxceleb1: Path, tmp_path: Path) -> None:
    lines = [f"1 {_name(10001, 1)} {_name(10001, 2)}", f"0 {_name(10001, 1)} id10900/{VIDEO}/00007.wav"]
    (voxceleb1 / "list_test_hard2.txt").write_text("\n".join(lines))
    with (voxceleb1 / "vox1_meta.csv").open("a") as file:
        file.write("id10900\tNobody\tf\tUSA\tdev\n")
    summary = prepare("voxceleb1", voxceleb1, tmp_path / "out")
    assert summary["trials"] == {"trials_H_partial.txt": 1}
    assert summary["missing"] == [
        "id10900: no file of this speaker",
        f"id10900/{VIDEO}/00007.wav: named in list_test_hard2.txt",
    ]
    assert (tmp_path / "out" / "missing.txt").read_text().splitlines() == summary["missing"]


def test_extra_and_unreadable_files_are_listed(voxceleb1: Path, tmp_path: Path, tone: Tone) -> None:
    _write(voxceleb1 / "notes" / "hello.wav", tone(1.0))
    _write(voxceleb1 / "z_copy" / "id10001" / VIDEO / "00001.flac", tone(1.0))
    broken = voxceleb1 / "vox1_dev_wav" / "wav" / "id10002" / VIDEO / "00002.wav"
    broken.write_bytes(b"")
    summary = prepare("voxceleb1", voxceleb1, tmp_path / "out")
    assert summary["num_utterances"] == 7
    assert len(summary["extra"]) == 2
    assert "hello.wav: not in a folder idXXXXX/VIDEO" in summary["extra"][0]
    assert "the same utterance as" in "".join(summary["extra"])
    assert len(summary["unreadable"]) == 1
    assert str(broken) in summary["unreadable"][0]
    assert "empty file" in summary["unreadable"][0]


def test_voxceleb2_after_conversion(tmp_path: Path, tone: Tone) -> None:
    source = tmp_path / "VoxCeleb2"
    for split, speaker in (("dev", "id00012"), ("test", "id00017")):
        for number in (1, 2):
            _write(source / split / "aac" / speaker / "21Uxsk56VDQ" / f"{number:05}.wav", tone(1.5))
            m4a = source / split / "aac" / speaker / "21Uxsk56VDQ" / f"{number:05}.m4a"
            m4a.write_bytes(b"\0\0\0 ftypM4A ")
    left = source / "dev" / "aac" / "id00012" / "21Uxsk56VDQ" / "00003.m4a"
    left.write_bytes(b"\0\0\0 ftypM4A ")
    summary = prepare("voxceleb2", source, tmp_path / "out")
    manifest = read_manifest(tmp_path / "out" / "manifest.csv")
    assert [u.labels["split"] for u in manifest] == ["dev", "dev", "test", "test"]
    assert summary["missing"] == [f"id00012/21Uxsk56VDQ/00003.wav: not converted from {left}"]
    assert summary["trials"] == {}
    (source / "vox2_meta.csv").write_text(f"{META_2}\nid00012 ,n000012 ,m ,dev\nid00017 ,n000017 ,f ,test\n")
    prepare("voxceleb2", source, tmp_path / "out")
    assert read_manifest(tmp_path / "out" / "manifest.csv").label("sex") == ["M", "M", "F", "F"]


def test_speaker_in_both_parts_is_refused(tmp_path: Path, tone: Tone) -> None:
    for number, split in enumerate(("dev", "test"), start=1):
        _write(tmp_path / "VoxCeleb2" / split / "aac" / "id00012" / VIDEO / f"{number:05}.wav", tone(1.0))
    with pytest.raises(InputError, match=r"VoxCeleb2: split dev and test: 1 speakers are on both sides.*\(id00012\)"):
        prepare("voxceleb2", tmp_path / "VoxCeleb2", tmp_path / "out")


def test_unconverted_corpus_names_the_cure(tmp_path: Path) -> None:
    m4a = tmp_path / "Vox Celeb2" / "dev" / "aac" / "id00012" / "21Uxsk56VDQ" / "00001.m4a"
    m4a.parent.mkdir(parents=True)
    m4a.write_bytes(b"\0\0\0 ftypM4A ")
    with pytest.raises(InputError, match=r"1 m4a files.*cd '.*Vox Celeb2' && find .*ffmpeg"):
        prepare("voxceleb2", tmp_path / "Vox Celeb2", tmp_path / "out")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("id\tname\nid10001\tx\n", r"row 1: no column 'Gender'; found id, name"),
        (f"{META_1}\nA\tB\tm\tIreland\tdev\n", "row 2: found 'A'; expected a speaker such as id10001"),
        (f"{META_1}\nid10001\tm\tdev\n", "row 2: found 3 cells; expected 5"),
    ],
)
def test_bad_metadata_is_refused(voxceleb1: Path, tmp_path: Path, text: str, message: str) -> None:
    (voxceleb1 / "vox1_meta.csv").write_text(text)
    with pytest.raises(InputError, match=message):
        prepare("voxceleb1", voxceleb1, tmp_path / "out")


@pytest.mark.skipif(not hasattr(os, "symlink"), reason="needs links")
def test_links_that_lead_round_in_a_circle_end(voxceleb1: Path, tmp_path: Path) -> None:
    for folder in (voxceleb1, voxceleb1 / "vox1_dev_wav" / "wav" / "id10001"):
        (folder / "round").symlink_to(voxceleb1, target_is_directory=True)
    summary = prepare("voxceleb1", voxceleb1, tmp_path / "out")
    assert (summary["num_utterances"], summary["extra"]) == (8, [])


def test_wrong_folder(tmp_path: Path, tone: Tone) -> None:
    with pytest.raises(InputError, match="no such folder"):
        prepare("voxceleb1", tmp_path / "nowhere", tmp_path / "out")
    _write(tmp_path / "other" / "hello.wav", tone(1.0))
    with pytest.raises(InputError, match="no audio at idXXXXX"):
        prepare("voxceleb1", tmp_path / "other", tmp_path / "out")
