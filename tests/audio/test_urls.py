"""What a stranger's manifest or recipe can reach by URL: nothing, before a person agrees; and never more than bytes."""

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import torch

from dino_speech.audio.decoding import AudioError
from dino_speech.audio.io import load_audio
from dino_speech.audio.urls import ALLOWED, UnusableURLError, check_url, urls_agreed_to
from dino_speech.cli.main import main
from dino_speech.data.manifest import read_manifest
from dino_speech.errors import InputError, RecipeError
from dino_speech.recipe import load_recipe

TRICKS = [
    "reference://x::{evil}",
    "reference://::data:application/json,{{}}",
    "simplecache::https://example.org/a.wav",
    "https://example.org/a.wav::file:///etc/passwd",
    "file:///etc/passwd",
    "local:///etc/passwd",
    "data://text/plain,hello",
    "zip://a.wav::{evil}",
    "tar://a.wav::{evil}",
    "filecache://example.org/a",
    "github://owner:name@/a.wav",
    "ftp://example.org/a.wav",
    "sftp://example.org/a.wav",
    "ssh://example.org/a.wav",
    "jupyter://example.org/a.wav",
    "libarchive://a",
    "dask://a",
    "memory://a.wav",
    "://a.wav",
    "s3 ://a.wav",
]
TEMPLATE = """{"version": 1, "templates": {"u": "{{ cycler.__init__.__globals__.os.system('touch PROOF') }}"},
 "gen": [], "refs": {"a.wav": ["{{u}}"]}}"""


@pytest.mark.parametrize("trick", TRICKS)
def test_other_protocols_and_chains_are_refused_in_every_file(trick: str, tmp_path: Path) -> None:
    evil = tmp_path / "evil.json"
    evil.write_text(TEMPLATE.replace("PROOF", str(tmp_path / "proof")))
    url = trick.format(evil=evil)
    manifest, recipe = tmp_path / "evil.csv", tmp_path / "evil.yaml"
    manifest.write_text(f'ID,duration,wav\na,1.0,"{url}"\n')
    recipe.write_text(f"train_manifest: {url!r}\n")
    with pytest.raises(UnusableURLError, match="not a URL that is read"):
        check_url(url)
    with urls_agreed_to():  # whoever agrees, agrees to fetching bytes, not to more
        with pytest.raises(AudioError, match="not a URL that is read"):
            load_audio(url)
        with pytest.raises(InputError, match="not a URL that is read"):
            read_manifest(manifest)
        with pytest.raises(RecipeError, match="not a URL that is read"):
            load_recipe(recipe)
    assert main(["check", str(manifest)]) == 1
    assert not (tmp_path / "proof").exists()


@pytest.fixture
def server(tmp_path: Path) -> Iterator[tuple[str, list[str]]]:
    """A server on this machine: its address, and what it was asked for."""
    asked: list[str] = []

    class Answer(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            data = (tmp_path / self.path.lstrip("/")).read_bytes()
            self.send_response(200)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def do_HEAD(self) -> None:
            asked.append(self.path)
            self.send_response(200)
            self.send_header("Content-Length", str((tmp_path / self.path.lstrip("/")).stat().st_size))
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    http = ThreadingHTTPServer(("127.0.0.1", 0), Answer)
    threading.Thread(target=http.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{http.server_address[1]}", asked
    http.shutdown()


def test_a_host_that_only_a_file_names_is_asked_for_nothing(server, write_wav, tone, tmp_path, monkeypatch) -> None:
    address, asked = server
    write_wav("a.wav", tone(1.0))
    manifest, recipe = tmp_path / "train.csv", tmp_path / "r.yaml"
    manifest.write_text(f"ID,duration,wav\na,1.0,{address}/a.wav\n")
    recipe.write_text(f"train_manifest: !apply:dino_speech.read_manifest [{address}/train.csv]\n")
    with pytest.raises(InputError, match=r"train.csv row 2, column 'wav': names http.*--allow-urls"):
        read_manifest(manifest)
    with pytest.raises(RecipeError, match=r"r.yaml line 1: names http.*--allow-urls"):
        load_recipe(recipe)
    assert main(["check", str(manifest)]) == 1
    assert asked == []
    monkeypatch.setenv(ALLOWED, "1")
    assert read_manifest(manifest)[0].wav == f"{address}/a.wav"


def test_what_a_person_names_or_agrees_to_is_fetched(server, write_wav, tone, tmp_path) -> None:
    pytest.importorskip("aiohttp", reason="needs the extra dino-speech[urls]")
    address, asked = server
    wave = load_audio(write_wav("a.wav", tone(1.0)))
    (tmp_path / "train.csv").write_text(f"ID,duration,wav\na,1.0,a.wav\nb,1.0,{address}/a.wav\n")
    named = read_manifest(f"{address}/train.csv")  # and what lies on the same host
    assert torch.equal(load_audio(named[0].wav), wave)
    assert torch.equal(load_audio(named[1].wav), wave)
    assert set(asked) == {"/train.csv", "/a.wav"}
    (tmp_path / "other.csv").write_text("ID,duration,wav\na,1.0,https://elsewhere.example/a.wav\n")
    with pytest.raises(InputError, match=r"nothing is fetched from https://elsewhere\.example"):
        read_manifest(f"{address}/other.csv")
    assert main(["check", str(tmp_path / "train.csv"), "--allow-urls"]) == 0


def test_a_host_that_does_not_answer_is_not_a_corrupt_file(monkeypatch) -> None:
    pytest.importorskip("aiohttp", reason="needs the extra dino-speech[urls]")
    monkeypatch.setattr("dino_speech.audio.urls.PAUSES_S", ())
    with pytest.raises(AudioError, match=r"cannot be fetched \(.*127\.0\.0\.1:1.*\); check the address, and that it"):
        load_audio("http://127.0.0.1:1/a.wav")


def test_a_missing_package_is_named(monkeypatch) -> None:
    def absent(url: str) -> None:
        raise ImportError('HTTPFileSystem requires "requests" and "aiohttp" to be installed')

    monkeypatch.setattr("fsspec.core.url_to_fs", absent)
    with pytest.raises(AudioError, match=r"needs a package that is missing .*pip install 'fsspec\[http\]'"):
        load_audio("https://example.org/a.wav")
