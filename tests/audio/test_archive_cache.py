"""Copies of remote archives: fetched once, read like the origin, limited in size."""

import multiprocessing
import os
from pathlib import Path

import fsspec
import pytest
import soundfile
import torch
from fsspec.implementations.memory import MemoryFileSystem

from dino_speech.audio.decoding import AudioError
from dino_speech.audio.io import load_audio
from dino_speech.audio.urls import FOLDER, LIMIT_GB, local_copy

pytestmark = pytest.mark.usefixtures("memory_urls")


@pytest.fixture
def remote(tmp_path, tone, monkeypatch) -> list[str]:
    """Three archives behind URLs, of one sound each, as places."""
    monkeypatch.setenv(FOLDER, str(tmp_path / "cache"))
    path, places = tmp_path / "a.wav", []
    for number in range(3):
        soundfile.write(path, tone(0.5, hz=200 + 100 * number), 16_000)
        url = f"memory://{tmp_path.name}/{number}.tar"
        fsspec.filesystem("memory").pipe(f"/{tmp_path.name}/{number}.tar", bytes(512) + path.read_bytes())
        places.append(f"{url}#512,{path.stat().st_size}")
    return places


def copies(folder: Path) -> set[str]:
    return {path.name.rpartition("-")[2] for path in (folder / "cache").glob("[!.]*")}


def test_a_copy_reads_like_its_origin_and_is_fetched_once(remote, tmp_path, monkeypatch):
    waves = [load_audio(place) for place in remote]
    assert copies(tmp_path) == {"0.tar", "1.tar", "2.tar"}
    fsspec.filesystem("memory").rm(f"/{tmp_path.name}/0.tar")
    assert torch.equal(load_audio(remote[0], start=100, stop=900), waves[0][100:900])
    monkeypatch.delenv(FOLDER)
    assert torch.equal(load_audio(remote[1]), waves[1])


def test_what_was_not_used_for_longest_makes_room(remote, tmp_path, monkeypatch):
    monkeypatch.setenv(LIMIT_GB, "0.00004")  # two of 17 kB
    for number in (0, 1, 0, 2):
        load_audio(remote[number])
    assert copies(tmp_path) == {"0.tar", "2.tar"}
    load_audio(remote[1])
    assert copies(tmp_path) == {"1.tar", "2.tar"}


def test_an_archive_that_is_not_there(remote, tmp_path):
    with pytest.raises(AudioError, match=r"none.tar#0,5: no such file"):
        load_audio(f"memory://{tmp_path.name}/none.tar#0,5")
    assert copies(tmp_path) == set()


class Flaky(MemoryFileSystem):
    """Fails at two of three requests."""

    protocol = "flaky"
    asked = 0

    @classmethod
    def _strip_protocol(cls, path):
        return super()._strip_protocol(path.replace("flaky://", "memory://"))

    def _refuse(self):
        Flaky.asked += 1
        if Flaky.asked % 3:
            raise ConnectionResetError("slow down")

    def cat_file(self, *arguments, **options):
        self._refuse()
        return super().cat_file(*arguments, **options)

    def get_file(self, *arguments, **options):
        self._refuse()
        return super().get_file(*arguments, **options)


@pytest.mark.parametrize("kept", [False, True])
def test_storage_that_fails_is_asked_again(remote, monkeypatch, kept):
    monkeypatch.setattr("dino_speech.audio.urls.PAUSES_S", (0.0, 0.01))
    monkeypatch.setattr(Flaky, "asked", 0)
    fsspec.register_implementation("flaky", Flaky, clobber=True)
    wanted = load_audio(remote[0])
    if not kept:
        monkeypatch.delenv(FOLDER)
    assert torch.equal(load_audio(remote[0].replace("memory://", "flaky://")), wanted)
    assert Flaky.asked == 3
    monkeypatch.setattr("dino_speech.audio.urls.PAUSES_S", (0.0,))
    with pytest.raises(AudioError, match="slow down"):
        load_audio(remote[1].replace("memory://", "flaky://"))


def _ask(url: str, folder: str) -> None:
    path = local_copy(url)
    Path(folder, str(os.getpid())).write_text(str(path.stat().st_ino))


def test_many_processes_fetch_it_once(tmp_path, monkeypatch):
    monkeypatch.setenv(FOLDER, str(tmp_path / "cache"))
    (tmp_path / "a.tar").write_bytes(bytes(5_000_000))
    (tmp_path / "seen").mkdir()
    context = multiprocessing.get_context("fork")
    arguments = (f"file://{tmp_path}/a.tar", str(tmp_path / "seen"))
    workers = [context.Process(target=_ask, args=arguments) for _ in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
        assert worker.exitcode == 0
    assert len({path.read_text() for path in (tmp_path / "seen").iterdir()}) == 1
    assert copies(tmp_path) == {"a.tar"}
