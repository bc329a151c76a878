"""What a stranger's folder may hold beside files: pipes, devices, links that lead out, archives that burst."""

import json
import os
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from dino_speech import (
    build_encoder,
    load_audio,
    load_encoder,
    read_embeddings,
    read_manifest,
    read_shards,
    read_trials,
)
from dino_speech.data.atomic import write_atomically
from dino_speech.errors import InputError
from dino_speech.received_files import read_bytes, refuse_links_out
from dino_speech.training.state import TrainingState, load_state, prepare_folder, save_state


def _state(folder: Path) -> Path:
    return save_state(TrainingState(3, {"lr": 0.1}, {"w": {"w": torch.ones(3)}}, [{}]), folder)


@pytest.fixture
def encoder(tmp_path: Path) -> Path:
    small = {"embedding_dim": 4, "channels": 8, "attention_channels": 4, "se_channels": 4}
    return build_encoder("ecapa_tdnn", seed=0, **small).save(tmp_path / "encoder", {})


READERS: dict[str, Callable[[Path], object]] = {
    "m.csv": read_manifest,
    "t.txt": read_trials,
    "e.npz": read_embeddings,
    "last.pt": load_state,
    "a.wav": load_audio,
}


@pytest.mark.parametrize("name", READERS)
@pytest.mark.parametrize("kind", ["pipe", "endless"])
def test_what_is_no_file_is_not_waited_for(tmp_path: Path, name: str, kind: str) -> None:
    path = tmp_path / name
    if kind == "pipe":
        os.mkfifo(path)
    else:
        path.symlink_to("/dev/zero")
    with pytest.raises(InputError, match=r"pipe or a device|no such file"):
        READERS[name](path)


@pytest.mark.parametrize("name", ["encoder.json", "model.safetensors"])
@pytest.mark.parametrize("kind", ["pipe", "endless"])
def test_nor_in_the_folder_of_an_encoder(encoder: Path, name: str, kind: str) -> None:
    (encoder / name).unlink()
    if kind == "pipe":
        os.mkfifo(encoder / name)
    else:
        (encoder / name).symlink_to("/dev/zero")
    with pytest.raises(InputError, match=name):
        load_encoder(encoder)


def test_a_text_that_never_ends_its_line_is_not_read_whole(tmp_path: Path) -> None:
    path = tmp_path / "m.csv"
    with path.open("wb") as file:
        file.write(b"ID,duration,wav\n")
        file.truncate(2**40)  # holes cost nothing on the disk, nor in a tar that keeps them
    with pytest.raises(InputError, match=r"m.csv row"):
        read_manifest(path)
    with pytest.raises(OSError, match="more than 1,000 bytes"):
        read_bytes(path, max_bytes=1000)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"features": {"num_mels": 10**9}}, "num_mels=1000000000: expected a whole number from 1 to 1024"),
        ({"features": {"hop_ms": 0.01}}, "1 <= hop_ms <= window_ms <= 250"),
        ({"features": {"window_ms": 1e9}}, "1 <= hop_ms <= window_ms <= 250"),
        ({"sample_rate": 10**12}, "sample_rate is 1000000000000; expected from 1000 to 192000"),
        ({"name": ["ecapa_tdnn"]}, r"name is \['ecapa_tdnn'\]; expected str"),
        ({"embedding_dim": 10**12}, "asks for more than"),
    ],
)
def test_an_encoder_that_asks_for_memory(encoder: Path, change: dict[str, object], message: str) -> None:
    config = json.loads((encoder / "encoder.json").read_text())
    for key, value in change.items():
        config[key] = config[key] | value if isinstance(value, dict) else value
    (encoder / "encoder.json").write_text(json.dumps(config))
    with pytest.raises(InputError, match=message):
        load_encoder(encoder)


@pytest.mark.parametrize("text", ["[" * 100_000, '{"a":' * 100_000])
def test_deep_json(tmp_path: Path, encoder: Path, text: str) -> None:
    (encoder / "encoder.json").write_text(text)
    with pytest.raises(InputError, match="nested too deeply"):
        load_encoder(encoder)
    (tmp_path / "index.json").write_text(text)
    with pytest.raises(InputError, match="nested too deeply"):
        read_shards(tmp_path)


def test_an_archive_that_bursts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dino_speech.received_files.MAX_SMALL_BYTES", 1000)
    np.savez_compressed(tmp_path / "e.npz", ids=np.array(["a"]), embeddings=np.zeros((1, 100_000), np.float32))
    with pytest.raises(InputError, match="made to burst"):
        read_embeddings(tmp_path / "e.npz")
    path = _state(tmp_path)
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(tmp_path / "new.pt", "w", zipfile.ZIP_DEFLATED) as new:
        for member in old.infolist():
            new.writestr(member.filename, old.read(member))
        new.writestr("archive/data/9", bytes(10**6))
    with pytest.raises(InputError, match="made to burst"):
        load_state(tmp_path / "new.pt")


def test_arrays_that_promise_what_is_not_there(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "e.npz", "w") as archive:
        for name in ("ids", "embeddings"):
            with archive.open(f"{name}.npy", "w") as file:
                np.lib.format.write_array_header_1_0(file, {"descr": "<f4", "fortran_order": False, "shape": (10**14,)})
    with pytest.raises(InputError, match="no embeddings"):
        read_embeddings(tmp_path / "e.npz")


def test_a_state_that_repeats_itself_into_something_huge(tmp_path: Path) -> None:
    laugh: dict[str, object] = {"x": 1}
    for _ in range(40):
        laugh = {"a": laugh, "b": laugh}
    path = save_state(TrainingState(3, laugh, {}, [{}]), tmp_path)
    with pytest.raises(InputError, match="more than 1,000,000 things"):
        load_state(path)


def test_a_tar_is_read_by_places_whatever_its_headers_say(tmp_path: Path) -> None:
    """Members that claim 8 GB, lead out by name or link, or are devices: no header of a tar is ever read."""
    import tarfile

    soundfile.write(tmp_path / "a.flac", 0.1 * np.ones(1_600), 16_000)
    sound = (tmp_path / "a.flac").read_bytes()
    with tarfile.open(tmp_path / "s.tar", "w", format=tarfile.USTAR_FORMAT) as tar:
        for name, kind, target in (
            ("../../out.flac", tarfile.LNKTYPE, "/etc/passwd"),
            ("/abs.flac", tarfile.SYMTYPE, "../../etc/passwd"),
            ("zero.flac", tarfile.CHRTYPE, ""),
        ):
            entry = tarfile.TarInfo(name)
            entry.type, entry.linkname = kind, target
            tar.addfile(entry)
        offset = tar.offset + 512
        tar.add(tmp_path / "a.flac", "good.flac")
    claims = tarfile.TarInfo("huge.flac")
    claims.size = 8 * 10**9
    with (tmp_path / "s.tar").open("ab") as file:
        file.write(claims.tobuf())
    place = f"{tmp_path / 's.tar'}#{offset},{len(sound)}"
    assert len(load_audio(place)) == 1_600
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.flac", "s.tar"]
    size = (tmp_path / "s.tar").stat().st_size
    for bad in (f"{size - 10},8000000000", f"{10**17},1"):
        with pytest.raises(InputError, match="are asked of an archive of"):
            load_audio(f"{tmp_path / 's.tar'}#{bad}")
    with pytest.raises(InputError, match="no such file"):
        load_audio(f"{tmp_path / 's.tar'}#{'9' * 5000},1")
    with (tmp_path / "holes.tar").open("wb") as file:
        file.truncate(8 * 10**12)
    with pytest.raises(InputError, match="cannot be decoded"):
        load_audio(f"{tmp_path / 'holes.tar'}#0,8000000000000")


@pytest.mark.parametrize("rate", [1, 999, 2**31 - 1])
def test_a_rate_that_no_recording_has(tmp_path: Path, rate: int) -> None:
    soundfile.write(tmp_path / "a.wav", np.zeros(1_000), rate)
    with pytest.raises(InputError, match=f"its header says {rate} Hz; expected 1000 to 1000000"):
        load_audio(tmp_path / "a.wav")


def test_a_small_file_that_decodes_to_too_much(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The bound is on samples: at a high rate fewer hours fit; channels are averaged block by block."""
    monkeypatch.setattr("dino_speech.audio.decoding.MOST_SAMPLES", 50_000)
    monkeypatch.setattr("dino_speech.audio.decoding.BLOCK", 1_000)
    wave = np.random.default_rng(0).uniform(-0.5, 0.5, (48_000, 7)).astype(np.float32)
    soundfile.write(tmp_path / "a.wav", wave, 16_000, subtype="FLOAT")
    np.testing.assert_allclose(load_audio(tmp_path / "a.wav").numpy(), wave.mean(axis=1), atol=1e-6)
    soundfile.write(tmp_path / "b.flac", np.zeros((96_000, 8)), 192_000)
    with pytest.raises(InputError, match="hours at once"):
        load_audio(tmp_path / "b.flac")


def test_links_out_of_an_output_folder_are_refused(tmp_path: Path) -> None:
    own, precious = tmp_path / "run", tmp_path / "precious"
    (own / "deep").mkdir(parents=True)
    precious.mkdir()
    (own / "inside").symlink_to(own / "deep")
    refuse_links_out(own)
    refuse_links_out(tmp_path / "not there")
    reached = tmp_path / "by a link"
    reached.symlink_to(own)
    refuse_links_out(reached)
    (own / "deep" / "state").symlink_to(precious)
    for folder in (own, reached):
        with pytest.raises(InputError, match=r"state is a link to .*precious, out of the output folder"):
            refuse_links_out(folder)
    with pytest.raises(InputError, match="out of the output folder"):
        prepare_folder(own, "{}", keep=True)
    assert list(precious.iterdir()) == []


def test_a_link_in_the_place_of_a_file_is_replaced_and_not_followed(tmp_path: Path) -> None:
    precious, report = tmp_path / "precious", tmp_path / "report.md"
    precious.write_text("mine")
    report.symlink_to(precious)
    (tmp_path / f".report.md.{os.getpid()}.tmp").symlink_to(precious)
    write_atomically(report, lambda file: file.write(b"new"))
    assert (precious.read_text(), report.read_text(), report.is_symlink()) == ("mine", "new", False)


def test_folders_that_lead_into_each_other_are_walked_once(tmp_path: Path) -> None:
    from dino_speech.audio.io import find_audio
    from dino_speech.data.corpora.preparing import prepare

    folder = tmp_path / "wav" / "id10270" / "video"
    folder.mkdir(parents=True)
    soundfile.write(folder / "00001.wav", 0.1 * np.ones(8_000), 16_000)
    (folder / "up").symlink_to(tmp_path / "wav")
    (tmp_path / "wav" / "again").symlink_to(tmp_path / "wav" / "again2")
    (tmp_path / "wav" / "again2").symlink_to(tmp_path / "wav" / "again")
    (tmp_path / "wav" / "self").symlink_to(".")
    assert len(find_audio(tmp_path / "wav")) == 1
    assert prepare("voxceleb1", tmp_path / "wav", tmp_path / "out")["num_utterances"] == 1
    shutil.rmtree(tmp_path / "out")
