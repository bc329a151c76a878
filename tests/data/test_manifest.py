"""Reading, joining, writing and scanning manifests; each way of being wrong gives a message that names the place."""

import csv
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from dino_speech.data.manifest import Manifest, Utterance, check_files, read_manifest, scan_folder, write_manifest
from dino_speech.errors import InputError

GOOD = "ID,duration,wav,speaker\na,1.5,a.wav,anna\nb,2,sub/b.wav,ben\nc,1e1,/data/c.wav,\n"


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., Path]:
    def to_file(text: str | bytes, name: str = "train.csv") -> Path:
        path = tmp_path / name
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return path

    return to_file


def test_rows_labels_and_paths(write: Callable[..., Path], tmp_path: Path) -> None:
    manifest = read_manifest(write(GOOD))
    assert [u.id for u in manifest] == ["a", "b", "c"]
    assert manifest[0] == Utterance("a", str(tmp_path / "a.wav"), 1.5, None, None, {"speaker": "anna"})
    assert [u.wav for u in manifest[1:]] == [str(tmp_path / "sub" / "b.wav"), "/data/c.wav"]
    assert manifest.columns == ("speaker",)
    assert manifest.label("speaker") == ["anna", "ben", ""]
    assert manifest.by_id() == {"a": 0, "b": 1, "c": 2}
    assert manifest.by_path()["/data/c.wav"] == 2
    assert manifest.duration_s == 13.5
    assert manifest.path == str(tmp_path / "train.csv")


def test_paths_are_relative_to_the_manifest_not_to_the_current_folder(
    write: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(GOOD)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert read_manifest("../train.csv")[0].wav == str(tmp_path / "a.wav")


@pytest.mark.parametrize(
    "text",
    [
        GOOD.replace("\n", "\r\n"),
        b"\xef\xbb\xbf" + GOOD.encode(),
        GOOD.replace(",", ";"),
        GOOD.replace(",", "\t"),
        GOOD.replace("ID,duration,wav", "utt_id,duration_s,path"),
        "\n" + GOOD.replace("\na", "\n\na") + "\n\n",
        GOOD.replace("ID,", " ID , ").replace("anna", " anna "),
        "".join(f",{line}\n" if i == 0 else f"{i},{line}\n" for i, line in enumerate(GOOD.splitlines())),
        GOOD.replace("1.5,a.wav", '1.5,"a.wav"'),
    ],
    ids=["crlf", "bom", "semicolons", "tabs", "aliases", "blank lines", "spaces", "pandas index", "quotes"],
)
def test_tolerated_variants_read_the_same(text: str | bytes, write: Callable[..., Path]) -> None:
    expected = list(read_manifest(write(GOOD)))
    found = read_manifest(write(text))
    assert list(found) == expected
    assert found.columns == ("speaker",)


def test_spans_and_the_floats_that_pandas_makes_of_them(write: Callable[..., Path]) -> None:
    manifest = read_manifest(
        write("ID,duration,wav,start,stop\na,1,x.wav,0,16000\nb,1,x.wav,16000.0,32000.0\nc,1,x.wav,,\n")
    )
    assert [(u.start, u.stop) for u in manifest] == [(0, 16000), (16000, 32000), (None, None)]
    assert manifest.columns == ()
    assert manifest.by_path() == {manifest[0].wav: -1}  # three segments of one file: a path does not name a row


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", r"train\.csv: the file is empty; expected a header"),
        ("\n \n", r"train\.csv: the file is empty"),
        ("ID,duration,wav\n", r"train\.csv: has a header but no rows"),
        ("ID,wav\na,a.wav\n", r"row 1: no column 'duration' \(or 'duration_s'\); found columns: ID, wav"),
        ("id,duration,wav\na,1,a.wav\n", r"row 1: no column 'ID' .* did you mean 'id'"),
        ("ID,duration,wav,wav\na,1,a.wav,b.wav\n", r"row 1: column 'wav' occurs 2 times"),
        ("ID,duration,wav\na,1,a.wav\na,1,b.wav\n", r"'a' twice, in .*train\.csv row 2 and .*train\.csv row 3"),
        ("ID,duration,wav\na,-1.0,a.wav\n", r"row 2, column 'duration': found '-1\.0'; expected a positive number"),
        ("ID,duration,wav\na,0,a.wav\n", r"row 2, column 'duration': found '0'"),
        ("ID,duration,wav\na,nan,a.wav\n", r"row 2, column 'duration': found 'nan'"),
        ("ID,duration,wav\na,inf,a.wav\n", r"row 2, column 'duration': found 'inf'"),
        ("ID;duration;wav\na;1,5;a.wav\n", r"row 2, column 'duration': found '1,5'; .* decimal point"),
        ("utt_id,path,duration_s\na,a.wav,\n", r"row 2, column 'duration_s': found ''"),
        ("ID,duration,wav\na,1,a.wav\n,1,b.wav\n", r"row 3, column 'ID': found ''; expected a name"),
        ("ID,duration,wav\na,1, \n", r"row 2, column 'wav': found ''; expected the path"),
        ("ID,duration,wav\na,1,a.wav,x\n", r"row 2: found 4 cells, but the header names 3 columns"),
        (
            "ID,duration,wav,start,stop\na,1,a.wav,50,50\n",
            r"row 2, column 'stop': found '50'; .* above start, which is 50",
        ),
        (
            "ID,duration,wav,start,stop\na,1,a.wav,-5,50\n",
            r"row 2, column 'start': found '-5'; expected a whole number",
        ),
        ("ID,duration,wav,start,stop\na,1,a.wav,0.5,50\n", r"row 2, column 'start': found '0\.5'"),
        ("ID,duration,wav,start\na,1,a.wav,x\n", r"row 2, column 'start': found 'x'"),
        ("ID,duration,wav\n\n\na,bad,a.wav\n", r"row 4, column 'duration'"),
        (GOOD.encode("utf-16"), r"byte 0 is not UTF-8 text; save the manifest as CSV in UTF-8"),
    ],
)
def test_what_is_wrong_is_named(text: str | bytes, message: str, write: Callable[..., Path]) -> None:
    with pytest.raises(InputError, match=message):
        read_manifest(write(text))


def test_a_missing_file_and_a_folder_are_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"none\.csv: cannot be read \(No such file or directory\)"):
        read_manifest(tmp_path / "none.csv")
    with pytest.raises(InputError, match="is a folder; expected a manifest"):
        read_manifest(tmp_path)
    with pytest.raises(InputError, match="given no file"):
        read_manifest([])


def test_blank_labels_and_unknown_columns_are_named(write: Callable[..., Path]) -> None:
    manifest = read_manifest(write(GOOD))
    with pytest.raises(InputError, match=r"'speaker' is blank in 1 of 3 rows \(.*train\.csv row 4\)"):
        manifest.label("speaker", allow_blank=False)
    with pytest.raises(InputError, match=r"no column 'speakr'; label columns are speaker; did you mean 'speaker'"):
        manifest.label("speakr")


def test_missing_audio_is_counted_and_listed_before_work_begins(write: Callable[..., Path], tmp_path: Path) -> None:
    path = write("ID,duration,wav\n" + "".join(f"u{i},1,{i}.wav\n" for i in range(9)))
    (tmp_path / "0.wav").write_bytes(b"")
    manifest = read_manifest(path)  # reading alone does not look
    message = r"column 'wav': 8 of 9 audio files do not exist \(.*row 3: .*/1\.wav, .* and 3 more\)"
    with pytest.raises(InputError, match=message):
        check_files(manifest)
    with pytest.raises(InputError, match=message):
        read_manifest(path, must_exist=True)
    check_files(manifest.subset([0]))


def test_joining_manifests_with_a_selection(write: Callable[..., Path]) -> None:
    first = write("ID,duration,wav,split,speaker\na,1,a.wav,pretrain,s\nb,1,b.wav,test,s\n", "first.csv")
    second = write("ID,duration,wav,split,emotion\nc,1,c.wav,train,sad\nd,1,d.wav,test,sad\n", "second.csv")
    both = read_manifest([first, second], where={"split": ["pretrain", "train"]})
    assert [u.id for u in both] == ["a", "c"]
    assert both.columns == ("split", "speaker", "emotion")
    assert both.label("emotion") == ["", "sad"]
    assert (both.paths, both.path) == ((str(first), str(second)), None)
    with pytest.raises(InputError, match=r"no row has split in \['tset'\]; found values: pretrain, test, train"):
        read_manifest([first, second], where={"split": "tset"})
    with pytest.raises(InputError, match=r"second\.csv: no column 'speaker' to select rows by"):
        read_manifest([first, second], where={"speaker": "s"})


def test_an_id_in_two_files_is_refused_with_both_places(write: Callable[..., Path]) -> None:
    first, second = write(GOOD, "first.csv"), write(GOOD.replace("a,1.5", "z,1.5"), "second.csv")
    with pytest.raises(InputError, match=r"'b' twice, in .*first\.csv row 3 and .*second\.csv row 3; .* Rename"):
        read_manifest([first, second])


def test_select_and_subset(write: Callable[..., Path]) -> None:
    manifest = read_manifest(write(GOOD))
    assert [u.id for u in manifest.select(speaker=["ben", "anna"])] == ["a", "b"]
    assert [u.id for u in manifest.subset([2, 0])] == ["c", "a"]
    assert manifest.select(speaker="ben").columns == ("speaker",)
    with pytest.raises(InputError, match=r"found values: , anna, ben"):
        manifest.select(speaker="carl")


def test_written_manifests_read_back_and_suit_speechbrain(tmp_path: Path) -> None:
    rows = [
        Utterance("a", str(tmp_path / "out" / "a.wav"), 1.25, 0, 20_000, {"speaker": 'An, "A"', "emotion": ""}),
        Utterance("b", "/data/b.wav", 2.0, None, None, {"speaker": "Ben"}),
    ]
    path = write_manifest(Manifest(rows), tmp_path / "out" / "train.csv")
    assert [row["wav"] for row in csv.DictReader(path.open(newline=""))] == ["a.wav", "/data/b.wav"]
    again = read_manifest(path)
    assert again[0] == rows[0]
    assert again[1].labels == {"speaker": "Ben", "emotion": ""}
    assert sorted(p.name for p in path.parent.iterdir()) == ["train.csv"]  # nothing half-written stays

    from speechbrain.dataio.dataset import DynamicItemDataset

    dataset = DynamicItemDataset.from_csv(path, output_keys=["id", "duration", "speaker"])
    assert dict(dataset[0]) == {"id": "a", "duration": 1.25, "speaker": 'An, "A"'}


def test_scan_folder_lists_what_it_cannot_read(
    tmp_path: Path, write_wav: Callable[..., Path], tone: Callable[..., np.ndarray]
) -> None:
    write_wav("corpus/anna/1.wav", tone(1.0))
    write_wav("corpus/anna/day 2/2.flac", tone(0.5), sample_rate=8_000)
    write_wav("corpus/top.wav", tone(0.25))
    (tmp_path / "corpus" / "ben").mkdir()
    (tmp_path / "corpus" / "ben" / "broken.wav").write_bytes(b"RIFF nothing here")
    (tmp_path / "corpus" / "ben" / "empty.wav").write_bytes(b"")
    (tmp_path / "corpus" / "notes.txt").write_text("not audio")
    manifest = scan_folder(tmp_path / "corpus", speaker_from_parent=True)
    assert [(u.id, u.labels["speaker"]) for u in manifest] == [
        ("anna/1.wav", "anna"),
        ("anna/day 2/2.flac", "day 2"),
        ("top.wav", ""),
    ]
    assert [u.duration for u in manifest] == pytest.approx([1.0, 1.0, 0.25])  # 8,000 samples at 8 kHz are one second
    assert [s.name for s in manifest.skipped] == ["ben/broken.wav", "ben/empty.wav"]
    assert "empty" in manifest.skipped[1].reason
    assert scan_folder(tmp_path / "corpus").columns == ()
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "x.wav").write_bytes(b"")
    with pytest.raises(InputError, match="none of 1 audio files can be read"):
        scan_folder(tmp_path / "bad")


@pytest.mark.corpus
def test_the_real_packs_join(data_root: Path) -> None:
    packs = ["speakers_mixed", "speakers_more", "emotion_ravdess", "emotion_nemo", "emotion_urdu"]
    paths = [data_root / pack / "manifest.csv" for pack in packs]
    manifest = read_manifest(paths, where={"split": ["pretrain", "train"]}, must_exist=True)
    expected = sum(
        row["split"] in ("pretrain", "train") for path in paths for row in csv.DictReader(path.open(newline=""))
    )
    assert len(manifest) == expected > 5_000


def test_numbers_of_a_column(tmp_path: Path) -> None:
    path = tmp_path / "m.csv"
    path.write_text("ID,duration,wav,arousal\na,1,a.wav,3.5\nb,1,b.wav,\nc,1,c.wav,-1e-2\n")
    manifest = read_manifest(path)
    np.testing.assert_array_equal(manifest.numbers("arousal"), [3.5, np.nan, -0.01])
    with pytest.raises(InputError, match="column 'arousal' is blank in 1 of 3 rows"):
        manifest.numbers("arousal", allow_blank=False)
    path.write_text("ID,duration,wav,arousal\na,1,a.wav,3.5\nb,1,b.wav,calm\n")
    with pytest.raises(InputError, match=r"m.csv row 3, column 'arousal': found 'calm'; expected a number"):
        read_manifest(path).numbers("arousal")
