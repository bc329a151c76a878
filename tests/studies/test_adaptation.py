"""V-FT, TAPT and P-TAPT fold by fold; nothing of a fold's test part is opened by what trains, as the system reports."""

import ctypes
import json
import os
import struct
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch

from dino_speech import FineTuneStage, build_encoder, read_manifest
from dino_speech.data.folds import manifest_folds
from dino_speech.data.manifest import Manifest
from dino_speech.errors import InputError
from dino_speech.frame_level.ptapt import PTAPT
from dino_speech.frame_level.tapt import TAPT
from dino_speech.studies.adaptation import AdaptationStudy

pytest.importorskip("transformers", reason="needs the extra dino-speech[ssl]")

CONFIG = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 48,
    "conv_dim": [16] * 7,
    "layerdrop": 0.0,
    "num_conv_pos_embeddings": 16,
    "num_conv_pos_embedding_groups": 4,
    "num_codevectors_per_group": 8,
    "codevector_dim": 16,
    "proj_codevector_dim": 16,
}
LOOP: dict[str, Any] = {"batch_size": 8, "chunk_s": 0.6, "num_workers": 0, "precision": "fp32", "mask_length": 4}


@pytest.fixture
def manifest(tmp_path: Path) -> Manifest:
    """4 speakers x 4 files of half a second to one second, in two sessions; each speaker in a folder of their own."""
    rng = np.random.default_rng(0)
    rows = ["ID,duration,wav,speaker,emotion,arousal,session"]
    for number in range(16):
        speaker, happy = number // 4, number % 2
        size = 10_000 + 400 * number
        wave = 0.1 * np.sin(2 * np.pi * (200 + 60 * speaker) / 16_000 * np.arange(size))
        wave += (0.01 + 0.05 * happy) * rng.standard_normal(size)
        path = tmp_path / "audio" / f"s{speaker}" / f"{number}.wav"
        path.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(path, wave.astype(np.float32), 16_000)
        emotion = "happy" if happy else "neutral"
        cells = (f"u{number}", size / 16_000, f"s{speaker}/{number}.wav", f"s{speaker}", emotion, number, speaker // 2)
        rows.append(",".join(map(str, cells)))
    (tmp_path / "audio" / "manifest.csv").write_text("\n".join(rows) + "\n")
    return read_manifest(tmp_path / "audio" / "manifest.csv")


@pytest.fixture
def small_study() -> Callable[..., AdaptationStudy]:
    def make(**changes: Any) -> AdaptationStudy:
        encoder = build_encoder("wav2vec2", config=CONFIG, seed=0)
        adapters = {
            "V-FT": None,
            "TAPT": TAPT(encoder, **LOOP, steps=2, num_negatives=5),
            "P-TAPT": PTAPT(encoder, **LOOP, steps=2, state_steps=2, num_clusters=[4, 8]),
        }
        stage = FineTuneStage(["backbone.model.encoder"], epochs=1, lr=1e-3, chunk_s=0.6)
        tuner = {"batch_size": 8, "num_workers": 0, "precision": "fp32"}
        options: dict[str, Any] = {"label": "emotion", "fold_column": "session", "tuner": tuner, "stages": [stage]}
        return AdaptationStudy(encoder, **{"adapters": adapters, **options, **changes})

    return make


@contextmanager
def opened_files(folders: list[Path]) -> Iterator[set[str]]:
    """Within, the kernel notes each file that any process opens in these folders: also libsndfile, also workers."""
    libc = ctypes.CDLL(None, use_errno=True)
    watcher, opened = libc.inotify_init1(os.O_NONBLOCK), set()
    in_open = 0x20
    watched = {libc.inotify_add_watch(watcher, str(folder).encode(), in_open): folder for folder in folders}
    assert min(watched) > 0, os.strerror(ctypes.get_errno())
    found: set[str] = set()
    try:
        yield found
        while True:
            try:
                data = os.read(watcher, 65_536)
            except BlockingIOError:
                break
            place = 0
            while place < len(data):
                watch, kinds, _, size = struct.unpack_from("iIII", data, place)
                assert not kinds & 0x4000, "the kernel's list ran over"
                name = data[place + 16 : place + 16 + size].rstrip(b"\0").decode()
                opened.add(str(watched[watch] / name))
                place += 16 + size
        found |= {name for name in opened if name.endswith(".wav")}
    finally:
        os.close(watcher)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="inotify is Linux's")
@pytest.mark.parametrize("strategy", ["V-FT", "TAPT", "P-TAPT"])
def test_what_trains_opens_the_training_files_and_no_others(
    strategy: str, small_study: Callable[..., AdaptationStudy], manifest: Manifest, tmp_path: Path
) -> None:
    study = small_study()
    folders = sorted({Path(utterance.wav).parent for utterance in manifest})
    for name, (rows, held_out) in manifest_folds(manifest, column="session").items():
        train, test = manifest.subset(rows.tolist()), manifest.subset(held_out.tolist())
        with opened_files(folders) as opened:
            study.train(strategy, train, folder=tmp_path / name, adapted=tmp_path / "adapted", seed=1)
        assert opened == {utterance.wav for utterance in train}  # the recorder sees what is read
        assert not opened & {utterance.wav for utterance in test}
        with opened_files(folders) as again:
            torch.from_numpy(soundfile.read(test[0].wav)[0])
        assert again == {test[0].wav}


@pytest.mark.slow
def test_the_study_gives_its_table(
    small_study: Callable[..., AdaptationStudy], manifest: Manifest, tmp_path: Path
) -> None:
    study = small_study(fractions=(1.0, 0.5))
    study.adapters = {name: study.adapters[name] for name in ("V-FT", "P-TAPT")}
    table = study.run(manifest, output_folder=tmp_path / "out", seeds=[1])
    assert not table.failures
    settings = [(row.settings["strategy"], row.settings["fraction"]) for row in table.rows]
    assert settings == [(name, share) for name in ("V-FT", "P-TAPT") for share in (1.0, 0.5)]
    assert "| P-TAPT | 0.5 | 1 |" in (tmp_path / "out" / "table.md").read_text()
    folds = json.loads(next((tmp_path / "out" / "cells").rglob("folds.json")).read_text())
    assert set(folds) == {"0", "1"}
    # An adapter, two shares, two folds: each once, whatever the number of seeds.
    times = {path: path.stat().st_mtime_ns for path in (tmp_path / "out" / "adapted").iterdir()}
    assert len(times) == 4
    more = study.run(manifest, output_folder=tmp_path / "out", seeds=[1, 2])
    assert all(row.seeds == [1, 2] for row in more.rows)
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "out" / "adapted").iterdir()} == times
    assert more.rows[0].results[:1] == table.rows[0].results


def test_subsets_lie_within_each_other(small_study: Callable[..., AdaptationStudy], manifest: Manifest) -> None:
    study = small_study()
    sizes, before = [], set(manifest.label("speaker"))
    for fraction in (1.0, 0.6, 0.5, 0.01):
        speakers = set(study.subset(manifest, fraction, "1").label("speaker"))
        assert speakers <= before
        before = speakers
        sizes.append(len(speakers))
    assert sizes == [4, 3, 2, 1]


def test_v_ft_leaves_the_front_as_it_is(
    small_study: Callable[..., AdaptationStudy], manifest: Manifest, tmp_path: Path
) -> None:
    study = small_study()
    tuner = study.train("V-FT", manifest, folder=tmp_path / "out", adapted=tmp_path, seed=0)
    before, after = study.encoder.state_dict(), tuner.encoder_.state_dict()
    same = {name for name, value in before.items() if torch.equal(value, after[name])}
    prefixes = ("backbone.model.feature_extractor.", "backbone.model.feature_projection.")
    frozen = {name for name in before if name.startswith(prefixes)} | {"backbone.model.masked_spec_embed"}
    assert same == frozen


def test_dimensions_and_what_is_refused(
    small_study: Callable[..., AdaptationStudy], manifest: Manifest, tmp_path: Path
) -> None:
    study = small_study(adapters={"V-FT": None}, label=["arousal"], objective="ccc")
    row = study.run(manifest, output_folder=tmp_path / "out", seeds=[1]).rows[0]
    assert -1 <= row.mean("ccc_arousal") <= 1
    with pytest.raises(InputError, match=r"adapters\['x'\] is int"):
        small_study(adapters={"x": 3})
    with pytest.raises(InputError, match="fractions"):
        small_study(fractions=(0.0,))
