"""Embeddings written part by part are those of one go, whatever happens on the way."""

import csv
import json
import signal
from pathlib import Path

import numpy as np
import processes
import pytest

from dino_speech import load_encoder
from dino_speech.cli.main import main
from dino_speech.data.shards.writing import write_shards
from dino_speech.embedding.inputs import Inputs
from dino_speech.embedding.parts_on_disk import embedding_parts, read_embeddings
from dino_speech.embedding.to_disk import embed_to_file, embed_to_folder
from dino_speech.errors import InputError


@pytest.fixture
def encoder():
    return load_encoder("fbank_stats")


def many_rows(folder: Path, num: int) -> Path:
    """A manifest of `num` utterances that share sixteen files."""
    with (folder / "manifest.csv").open() as file:
        rows = list(csv.DictReader(file))
    path = folder / "many.csv"
    lines = [f"u{i:05d},{rows[i % 16]['duration']},{rows[i % 16]['wav']}" for i in range(num)]
    path.write_text("\n".join(["ID,duration,wav", *lines]) + "\n")
    return path


def equal(found, wanted):
    assert found.ids == wanted.ids
    assert found.embeddings.dtype == np.float32
    np.testing.assert_allclose(found.embeddings, wanted.embeddings, atol=1e-4)


def test_another_precision_is_another_run_and_old_folders_were_float32(voices_folder, tmp_path, encoder):
    output = tmp_path / "parts"
    embed_to_folder([voices_folder], encoder, output, num_workers=1)
    run = json.loads((output / "run.json").read_text())
    assert run.pop("precision") == "fp32"
    (output / "run.json").write_text(json.dumps(run))  # as it was written before there was a choice
    embed_to_folder([voices_folder], encoder, output, num_workers=1)
    (output / "run.json").write_text(json.dumps(run))
    with pytest.raises(InputError, match="precision differ"):
        embed_to_folder([voices_folder], encoder, output, num_workers=1, precision="bf16")


def test_a_folder_holds_what_one_file_would(voices_folder, tmp_path, encoder):
    (voices_folder / "spk0" / "bad.wav").write_bytes(b"no sound")
    whole = embed_to_file([voices_folder], encoder, tmp_path / "whole.npz")
    report = embed_to_folder([voices_folder], encoder, tmp_path / "parts", part_size=3, num_workers=1)
    assert report.to_dict() == whole.to_dict() | {"output": str(tmp_path / "parts")}
    found = read_embeddings(tmp_path / "parts")
    equal(found, read_embeddings(tmp_path / "whole.npz"))
    assert [item.name for item in found.failures] == ["spk0/bad.wav"]
    assert [len(part.ids) for part in embedding_parts(tmp_path / "parts")] == [3, 2, 3, 3, 3, 2]
    assert (tmp_path / "parts" / "failures.csv").read_text().startswith("ID,reason\nspk0/bad.wav,")


def test_shards_and_manifests_and_files_are_taken(voices_folder, tmp_path, encoder):
    write_shards(voices_folder / "manifest.csv", tmp_path / "shards", shard_mb=0.1)
    file = str(voices_folder / "spk0" / "0.wav")
    embed_to_folder([voices_folder / "manifest.csv", file], encoder, tmp_path / "files", part_size=5)
    wanted = read_embeddings(tmp_path / "files")
    for number, shards in enumerate([tmp_path / "shards", tmp_path / "shards" / "index.json"]):
        embed_to_folder([shards, file], encoder, tmp_path / str(number), part_size=7)
        equal(read_embeddings(tmp_path / str(number)), wanted)


def test_parts_on_disk_are_not_embedded_again(voices_folder, tmp_path, encoder):
    given, folder = [voices_folder / "manifest.csv"], tmp_path / "parts"
    embed_to_folder(given, encoder, folder, part_size=4)
    wanted, before = read_embeddings(folder), {path: path.stat().st_mtime_ns for path in folder.glob("part-*")}
    (folder / "index.json").unlink()
    (folder / "part-000002.npz").unlink()
    with pytest.raises(InputError, match="the same `dino-speech embed` command goes on"):
        read_embeddings(folder)
    embed_to_folder(given, encoder, folder, part_size=4)
    equal(read_embeddings(folder), wanted)
    changed = [path.name for path, when in before.items() if path.stat().st_mtime_ns != when]
    assert changed == ["part-000002.npz"]


def test_a_damaged_part_is_told_and_made_again(voices_folder, tmp_path, encoder, caplog):
    given, folder = [voices_folder / "manifest.csv"], tmp_path / "parts"
    embed_to_folder(given, encoder, folder, part_size=4)
    wanted, part = read_embeddings(folder), folder / "part-000001.npz"
    whole = part.read_bytes()
    number = whole.index(wanted.embeddings[5].tobytes())
    for damaged in (whole[:-200], whole[:number] + bytes([whole[number] ^ 4]) + whole[number + 1 :]):
        part.write_bytes(damaged)
        with pytest.raises(
            InputError, match=r"part-000001.npz: a part of embeddings, missing or damaged .*makes it ag"
        ):
            read_embeddings(folder)
        embed_to_folder(given, encoder, folder, part_size=4)
        assert "part-000001.npz: a part of embeddings, missing or damaged" in caplog.text
        equal(read_embeddings(folder), wanted)


def test_another_run_is_refused(voices_folder, tmp_path, encoder):
    given, folder = [voices_folder / "manifest.csv"], tmp_path / "parts"
    embed_to_folder(given, encoder, folder, part_size=4)
    with pytest.raises(InputError, match=r"another run \(part_size differ\)"):
        embed_to_folder(given, encoder, folder, part_size=5)
    with pytest.raises(InputError, match=r"num_utterances, sha256 differ"):
        embed_to_folder([voices_folder / "spk0"], encoder, folder, part_size=4)
    with pytest.raises(InputError, match=r"encoder_sha256 differ"):
        embed_to_folder(given, load_encoder("random:xvector"), folder, part_size=4)
    with pytest.raises(InputError, match="holds other things"):
        embed_to_folder(given, encoder, voices_folder, part_size=4)


def test_what_is_wrong_with_the_inputs_is_said(voices_folder, tmp_path, encoder):
    with pytest.raises(InputError, match=r"found ID 'spk0_0' twice.*row 2 and .*row 2"):
        Inputs([voices_folder / "manifest.csv"] * 2).survey()
    with pytest.raises(InputError, match="no such file or folder"):
        Inputs([tmp_path / "none.csv"])
    (tmp_path / "bad.wav").write_bytes(b"bad")
    with pytest.raises(InputError, match="none of 1 files could be embedded"):
        embed_to_folder([tmp_path / "bad.wav"], encoder, tmp_path / "none")
    with pytest.raises(InputError, match="no embeddings"):
        read_embeddings(tmp_path / "bad.wav")


def words(manifest: Path, folder: Path) -> list[str]:
    return ["embed", str(manifest), "--output", str(folder), "--part-size", "10", "--encoder", "fbank_stats", "--json"]


@pytest.mark.slow
@pytest.mark.parametrize("num_processes", [1, 2])
def test_killed_and_called_again(voices_folder, tmp_path, encoder, num_processes):
    """Killed after some parts, gone on with by one process or two: each utterance once."""
    manifest, folder = many_rows(voices_folder, 400), tmp_path / "parts"
    process = processes.begin(tmp_path / "log", main, words(manifest, folder))
    processes.wait_until(lambda: len(list(folder.glob("part-*.npz"))) >= 5, process)
    process.kill()
    assert processes.ends(process) == [-signal.SIGKILL]
    kept = {path: path.stat().st_mtime_ns for path in folder.glob("part-*.npz")}
    assert 5 <= len(kept) < 40
    assert not (folder / "index.json").exists()
    again = processes.begin_together(num_processes, tmp_path, main, words(manifest, folder))
    assert processes.ends(*again) == [0] * num_processes
    assert all(path.stat().st_mtime_ns == when for path, when in kept.items())
    embed_to_file([manifest], encoder, tmp_path / "whole.npz")
    equal(read_embeddings(folder), read_embeddings(tmp_path / "whole.npz"))


@pytest.mark.slow
def test_two_processes_share_the_parts(voices_folder, tmp_path, encoder):
    manifest, folder = many_rows(voices_folder, 70), tmp_path / "parts"
    (voices_folder / "spk0" / "3.wav").write_bytes(b"bad")
    two = processes.begin_together(2, tmp_path, main, words(manifest, folder))
    codes, logs = processes.ends(*two), [(tmp_path / f"{rank}.log").read_text() for rank in range(2)]
    assert codes == [0, 0], logs
    assert ["num_embedded" in log for log in logs] == [True, False]  # rank zero answers
    assert all(f"part {number} of 7" in "".join(logs) for number in range(1, 8))
    embed_to_file([manifest], encoder, tmp_path / "whole.npz")
    found = read_embeddings(folder)
    equal(found, read_embeddings(tmp_path / "whole.npz"))
    assert [item.name for item in found.failures] == [f"u{i:05d}" for i in range(3, 70, 16)]
