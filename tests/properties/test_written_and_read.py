"""Every format of ours reads back what was written, whatever it holds that it may hold."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from dino_speech import load_encoder, read_embeddings, read_manifest, read_shards, read_trials
from dino_speech.audio.io import audio_info, load_audio
from dino_speech.audio.sources import member_place, open_bytes
from dino_speech.data.atomic import read_json, write_json_atomically
from dino_speech.data.loading.skipped import read_failures, write_failures
from dino_speech.data.manifest import write_manifest
from dino_speech.data.resumable_store import read_arrays, write_arrays
from dino_speech.data.shards.writing import write_shards
from dino_speech.data.trials import Trials, write_trials
from dino_speech.data.utterances import Manifest, Skipped, Utterance
from dino_speech.embedding.parts_on_disk import pack, part_path, write_index
from dino_speech.errors import InputError
from dino_speech.models.embed_files import Embeddings
from dino_speech.models.encoder_config import EncoderConfig
from dino_speech.models.registry import build_encoder
from dino_speech.plain_data import plain
from dino_speech.recipe import load_recipe
from dino_speech.training.state import TrainingState, load_state, save_state

# All of Unicode that UTF-8 can hold; cells of a manifest lose the spaces around them.
anything = st.text(st.characters(codec="utf-8", exclude_characters="\x00"), max_size=12)
texts = anything.map(str.strip)
names = anything.filter(lambda text: bool(text.strip())).map(str.strip)
counts = st.integers(0, 10**9)
plain_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False) | anything,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(anything, inner, max_size=3),
    max_leaves=8,
)


@st.composite
def utterances(draw: st.DrawFn) -> list[Utterance]:
    columns = draw(st.lists(st.sampled_from(["speaker", "sex", "emotion", "Land", "µ"]), unique=True))
    rows = []
    for name in draw(st.lists(names, min_size=1, max_size=5, unique=True)):
        start = draw(st.none() | counts)
        stop = draw(st.none() | counts.map(lambda length, start=start: (start or 0) + length + 1))
        duration = draw(st.floats(1e-6, 1e6)) + 1e-6
        labels = {column: draw(texts) for column in columns}
        rows.append(Utterance(name, f"/sounds/{draw(st.integers(0, 9))}.wav", round(duration, 6), start, stop, labels))
    return rows


@given(utterances())
def test_manifests(tmp_path: Path, rows: list[Utterance]) -> None:
    manifest = Manifest(rows)
    again = read_manifest(write_manifest(manifest, tmp_path / "m.csv"))
    assert list(again) == rows
    assert again.columns == manifest.columns
    column = manifest.columns[0] if manifest.columns else None
    if column is not None:
        wanted = rows[0].labels[column]
        chosen = read_manifest(tmp_path / "m.csv", where={column: wanted})
        assert list(chosen) == [row for row in rows if row.labels[column] == wanted]


@given(st.lists(st.tuples(st.sampled_from([0, 1]), names, names), min_size=1, max_size=6))
@example([(1, "two words", "x"), (0, "a\u2028b", "c\x85d")])
def test_trials(tmp_path: Path, rows: list[tuple[int, str, str]]) -> None:
    labels, enroll, test = (list(side) for side in zip(*rows, strict=True))
    trials = Trials(np.array(labels, np.int8), enroll, test)
    if any(set(name) & set("\t\n\r") for name in [*enroll, *test]):
        with pytest.raises(InputError, match="tab or a line break"):
            write_trials(trials, tmp_path / "t.txt")
        return
    again = read_trials(write_trials(trials, tmp_path / "t.txt"))
    assert (again.labels.tolist(), list(again.enroll), list(again.test)) == (labels, enroll, test)
    assert list(again.rows) == list(range(1, len(rows) + 1))


@given(st.lists(st.tuples(anything, anything), min_size=1, max_size=5))
@example([("'=1", "'-x"), ("=1", "''=1")])
def test_what_was_left_out(tmp_path: Path, rows: list[tuple[str, str]]) -> None:
    skipped = [Skipped(*row) for row in rows]
    write_failures(skipped, tmp_path / "failures.csv")
    assert read_failures(tmp_path / "failures.csv") == skipped


@given(st.lists(st.lists(names, max_size=3), min_size=1, max_size=4), st.integers(1, 4), st.integers(0, 2**31))
def test_embeddings(tmp_path: Path, parts: list[list[str]], dim: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    written = [
        Embeddings(
            ids, rng.standard_normal((len(ids), dim)).astype(np.float32), [Skipped(name, "short") for name in ids]
        )
        for ids in parts
    ]
    for number, part in enumerate(written):
        write_arrays(part_path(tmp_path, number), pack(part))
    write_index(tmp_path, len(written), {})
    again = read_embeddings(tmp_path)
    assert again.ids == [name for ids in parts for name in ids]
    assert again.failures == [item for part in written for item in part.failures]
    np.testing.assert_array_equal(again.embeddings, np.concatenate([part.embeddings for part in written]))


@given(
    st.dictionaries(
        st.sampled_from(["a", "b", "ids"]),
        st.integers(0, 3).map(np.ones) | st.lists(anything).map(lambda x: np.array(x, dtype=str)),
    )
)
def test_arrays(tmp_path: Path, arrays: dict[str, np.ndarray]) -> None:
    write_arrays(tmp_path / "a.npz", arrays)
    again = read_arrays(tmp_path / "a.npz")
    assert again.keys() == arrays.keys()
    for name, array in arrays.items():
        np.testing.assert_array_equal(again[name], array)


@given(plain_values)
def test_plain_data(tmp_path: Path, value: Any) -> None:
    write_json_atomically(tmp_path / "a.json", plain(value))
    found = json.dumps(plain(value), allow_nan=False)
    assert read_json(tmp_path / "a.json") == json.loads(found) == plain(value)


@given(st.dictionaries(anything, plain_values, max_size=4), counts)
def test_states(tmp_path: Path, value: dict[str, Any], step: int) -> None:
    tensor = torch.arange(6.0).view(2, 3) * step
    save_state(TrainingState(step, value, {"m": {"w": tensor}}, [value], value), tmp_path)
    again = load_state(tmp_path / "last.pt")
    assert (again.step, again.identity, again.rng, again.extra) == (step, value, [value], value)
    assert torch.equal(again.modules["m"]["w"], tensor)


@given(st.integers(1, 6), st.lists(st.integers(1, 9), min_size=1, max_size=3), st.integers(0, 9))
@settings(max_examples=10)
@pytest.mark.slow
def test_encoders(tmp_path: Path, dim: int, channels: list[int], seed: int) -> None:
    one = [1] * len(channels)
    options = {"embedding_dim": dim, "channels": channels, "kernel_sizes": one, "dilations": one}
    encoder = build_encoder("xvector", seed=seed, **options).eval()
    again = load_encoder(encoder.save(tmp_path / "encoder", {}))
    assert again.config == encoder.config == EncoderConfig.from_dict(json.loads(json.dumps(encoder.config.to_dict())))
    for name, tensor in encoder.state_dict().items():
        assert torch.equal(again.state_dict()[name], tensor)


# What YAML's reader lets through, without what a recipe gives another meaning: a protocol.
yaml_texts = st.text(st.characters(codec="utf-8", categories=["L", "N", "P", "S", "Zs"]), max_size=12)
yaml_texts = yaml_texts.filter(lambda text: "://" not in text and "::" not in text)
settings_ = st.dictionaries(
    yaml_texts, st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | yaml_texts
)


@given(settings_, st.lists(settings_, max_size=2))
def test_a_recipe_in_json_says_what_json_says_and_its_text_says_it_again(
    tmp_path: Path, where: dict[str, Any], crops: list[Any]
) -> None:
    said = {"seed": 1, "where": where, "crops": crops}
    text = json.dumps(said, ensure_ascii=False).replace("Infinity", ".inf")
    (tmp_path / "r.yaml").write_text(text, encoding="utf-8")
    recipe = load_recipe(tmp_path / "r.yaml")
    assert recipe == said
    (tmp_path / "again.yaml").write_text(recipe.text, encoding="utf-8")
    assert load_recipe(tmp_path / "again.yaml") == said


@given(st.integers(1, 4_000), st.integers(0, 5_000), st.integers(0, 5_000), st.sampled_from(["wav", "flac"]))
def test_sound_and_its_spans(tmp_path: Path, num_samples: int, start: int, length: int, kind: str) -> None:
    samples = np.random.default_rng(num_samples).integers(-(2**15), 2**15, num_samples).astype(np.int16)
    path = tmp_path / f"a.{kind}"
    soundfile.write(path, samples, 16_000)
    wave = load_audio(path)
    np.testing.assert_array_equal(wave.numpy(), samples.astype(np.float32) / 2**15)
    assert audio_info(path).num_samples_at() == num_samples
    stop = start + length
    assume(start < min(stop, num_samples))
    assert torch.equal(load_audio(path, start=start, stop=stop), wave[start:stop])
    # The same bytes within an archive, whatever stands around them.
    data = path.read_bytes()
    (tmp_path / "b.tar").write_bytes(bytes(start) + data + bytes(7))
    place = member_place(str(tmp_path / "b.tar"), start, len(data))
    with open_bytes(place) as file:
        file.seek(min(length, len(data)))
        assert file.read() == data[min(length, len(data)) :]
    assert torch.equal(load_audio(place), wave)


@given(st.lists(st.integers(1, 3_000), min_size=1, max_size=5), st.sampled_from(["flac", "as-found"]))
@settings(max_examples=15)
@pytest.mark.slow
def test_shards(tmp_path_factory: pytest.TempPathFactory, lengths: list[int], codec: str) -> None:
    folder = tmp_path_factory.mktemp("shards")
    rows = []
    for number, length in enumerate(lengths):
        wave = np.random.default_rng(number).integers(-(2**15), 2**15, length).astype(np.int16)
        soundfile.write(folder / f"{number}.wav", wave, 16_000)
        rows.append(
            Utterance(f"u{number}", str(folder / f"{number}.wav"), length / 16_000, labels={"speaker": f"s{number}"})
        )
    write_shards(Manifest(rows), folder / "out", codec=codec, shard_mb=0.01)
    again = read_shards(folder / "out")
    assert [(u.id, u.labels) for u in again] == [(u.id, u.labels) for u in rows]
    for before, after in zip(rows, again, strict=True):
        assert torch.equal(load_audio(after.wav), load_audio(before.wav))
        assert math.isclose(after.duration, before.duration, abs_tol=1e-5)
