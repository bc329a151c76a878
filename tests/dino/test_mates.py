"""Mates against scikit-learn's neighbours in a space whitened by numpy, at the command line, in a run that stops."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.neighbors import NearestNeighbors
from test_pretrain import make_trainer, weights

from dino_speech.cli.main import main
from dino_speech.data.loading.mates import write_mates
from dino_speech.data.manifest import read_manifest
from dino_speech.data.utterances import Manifest, Utterance
from dino_speech.dino.mates import find_mates
from dino_speech.embedding.embedded_manifest import EmbeddedManifest
from dino_speech.errors import InputError


def drawn(num_speakers: int = 30, num_each: int = 3, *, dim: int = 8) -> EmbeddedManifest:
    """Speakers as points, three utterances around each, the first two of one recording; the space is stretched."""
    rng = np.random.default_rng(0)
    points = np.repeat(rng.standard_normal((num_speakers, dim)), num_each, axis=0)
    points += 0.15 * rng.standard_normal(points.shape)
    rows = [(speaker, number) for speaker in range(num_speakers) for number in range(num_each)]
    manifest = Manifest(
        Utterance(
            f"{s}_{n}",
            f"/{s}_{n}.wav",
            3.0,
            labels={"speaker": str(s), "recording": f"{s}_{max(1, n)}", "source": "ab"[s % 2]},
        )
        for s, n in rows
    )
    return EmbeddedManifest(manifest, (points * 10.0 ** rng.uniform(-1, 1, dim) + 5).astype(np.float32))


def test_they_are_scikit_learns_reciprocal_neighbours_in_the_whitened_space() -> None:
    embedded = drawn()
    found = find_mates(None, embedded.manifest, embedded=embedded, coverage=1.0, shrinkage=0.0)
    x = embedded.embeddings.astype(np.float64)
    values, vectors = np.linalg.eigh(np.cov(x.T))
    white = (x - x.mean(0)) @ vectors / np.sqrt(values)
    white /= np.linalg.norm(white, axis=1, keepdims=True)
    neighbours = NearestNeighbors(n_neighbors=3).fit(white).kneighbors(white)[1]
    recordings = np.array(embedded.manifest.label("recording"))
    nearest = [next(j for j in row if recordings[j] != recordings[i]) for i, row in enumerate(neighbours)]
    ids = [utterance.id for utterance in embedded.manifest]
    expected = {(ids[i], ids[j]) for i, j in enumerate(nearest) if nearest[j] == i}
    assert {(one, other) for one, other, _ in found.pairs} == expected
    assert found.figures["reciprocity"] == pytest.approx(len(expected) / len(ids))
    assert found.figures["useful_rate"] > 0.9
    similarities = [similarity for *_, similarity in found.pairs]
    assert similarities == sorted(similarities, reverse=True)
    one, other, similarity = found.pairs[0]
    assert similarity == pytest.approx(white[ids.index(one)] @ white[ids.index(other)], abs=1e-6)


def test_the_gate_keeps_the_nearest_pairs_whole_and_a_column_keeps_them_in_its_groups() -> None:
    embedded = drawn()
    every = find_mates(None, embedded.manifest, embedded=embedded, coverage=1.0)
    few = find_mates(None, embedded.manifest, embedded=embedded, coverage=0.2)
    assert few.pairs == every.pairs[:18]
    assert {pair[:2] for pair in few.pairs} == {pair[1::-1] for pair in few.pairs}, "both directions, or none"
    assert few.figures["coverage"] == pytest.approx(0.2)
    grouped = find_mates(None, embedded.manifest, embedded=embedded, coverage=1.0, same="source")
    assert all(int(one.split("_")[0]) % 2 == int(other.split("_")[0]) % 2 for one, other, _ in grouped.pairs)
    with pytest.raises(InputError, match=r"coverage = 0\.01 lets none through"):
        find_mates(None, embedded.manifest, embedded=embedded, coverage=0.01)


@pytest.mark.slow
def test_the_command_writes_the_table_that_a_run_trains_with_and_goes_on_with(
    all_voices: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    words = ["mates", "--encoder", "fbank_stats", "--manifest", str(all_voices / "manifest.csv"), "--coverage", "1"]
    assert main([*words, "--shrinkage", "0.1", "--output", str(tmp_path / "mates.csv"), "--json"]) == 0
    said = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert said["num_pairs"] == len((tmp_path / "mates.csv").read_text().splitlines()) - 1 > 0
    manifest = read_manifest(all_voices / "manifest.csv")
    mates = {"mates": {"table": str(tmp_path / "mates.csv"), "probability": 0.9}}
    whole = make_trainer(**mates).fit(manifest, output_folder=tmp_path / "whole")
    told = [row["mates"] for row in whole.history_ if "mates" in row]
    assert len(told) == 1
    assert told[0]["coverage"] == pytest.approx(said["coverage"])
    make_trainer(**mates, run={"max_minutes": 1e-6}).fit(manifest, output_folder=tmp_path / "out")
    resumed = make_trainer(**mates).fit(manifest, output_folder=tmp_path / "out")
    assert torch.equal(weights(resumed.teacher_encoder_), weights(whole.teacher_encoder_))
    write_mates([("spk0_0", "spk1_0", 0.5)], tmp_path / "other.csv")
    other = {"mates": {"table": str(tmp_path / "other.csv"), "probability": 0.9}}
    with pytest.raises(InputError, match=r"another run: mates\.num_pairs"):
        make_trainer(**other).fit(manifest, output_folder=tmp_path / "out")
