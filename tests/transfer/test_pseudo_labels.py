"""Rounds of clustering and fine-tuning on small voices: what is learnt from, what is kept, and going on."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from dino_speech import FineTuneStage, build_encoder, load_encoder, read_manifest
from dino_speech.embedding.parts_on_disk import read_embeddings
from dino_speech.errors import InputError
from dino_speech.models.encoder import SpeechEncoder
from dino_speech.transfer.clusters import Clustering
from dino_speech.transfer.pseudo_labels import COLUMN, PseudoLabelTrainer


def trainer(**options: object) -> PseudoLabelTrainer:
    given = {
        "clustering": Clustering(num_clusters=4, utterances_per_centroid=1, min_margin=-2, min_utterances=1),
        "stages": [FineTuneStage("affine", steps=2, chunk_s=0.5), FineTuneStage("all", steps=2, chunk_s=0.5)],
        "tuner": {"batch_size": 8, "num_workers": 0},
    } | options
    encoder = build_encoder("ecapa_tdnn", channels=16, embedding_dim=16, statistics_shortcut=True, seed=0)
    return PseudoLabelTrainer(encoder, **given)  # type: ignore[arg-type]


class Watch:
    """A monitor that counts its calls."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, encoder: SpeechEncoder) -> dict[str, float]:
        self.calls += 1
        return {"num_calls": float(self.calls)}


@pytest.mark.slow
def test_rounds_leave_labels_systems_figures_and_an_encoder(voices_folder: Path, tmp_path: Path) -> None:
    manifest = read_manifest(voices_folder / "manifest.csv")
    watch = Watch()
    learnt = trainer().fit(manifest, output_folder=tmp_path / "out", seed=1, monitor=watch)
    assert [row["round"] for row in learnt.rounds_] == [0, 1, 2]
    assert watch.calls == 3
    quality = learnt.rounds_[1]["quality"]
    assert quality["num_utterances"] == 16
    assert 0 < quality["nmi"] <= 1
    labelled = read_manifest(tmp_path / "out" / "round_1" / "pseudo_labels.csv")
    assert len(set(labelled.label(COLUMN, allow_blank=False))) == learnt.rounds_[1]["num_clusters"]
    assert labelled[0].wav == manifest[0].wav
    embedded = learnt.encoder_.embed_file(manifest[0].wav)
    assert (load_encoder(tmp_path / "out" / "encoder").embed_file(manifest[0].wav) == embedded).all()
    assert (trainer().encoder.eval().embed_file(manifest[0].wav) != embedded).any()


@pytest.mark.slow
def test_labels_of_people_are_not_learnt_from(voices_folder: Path, tmp_path: Path) -> None:
    text = (voices_folder / "manifest.csv").read_text()
    blind = voices_folder / "blind.csv"
    blind.write_text("\n".join(line.rsplit(",", 2)[0] for line in text.splitlines()) + "\n")
    first = trainer(num_rounds=1).fit(voices_folder / "manifest.csv", output_folder=tmp_path / "a", seed=1)
    second = trainer(num_rounds=1).fit(blind, output_folder=tmp_path / "b", seed=1)
    assert second.rounds_[1]["quality"] is None
    wav = read_manifest(blind)[3].wav
    assert (first.encoder_.embed_file(wav) == second.encoder_.embed_file(wav)).all()


@pytest.mark.slow
def test_a_stopped_run_goes_on_and_finished_rounds_are_only_loaded(voices_folder: Path, tmp_path: Path) -> None:
    manifest = voices_folder / "manifest.csv"
    whole = trainer().fit(manifest, output_folder=tmp_path / "whole", seed=1)
    parts = trainer().fit(manifest, output_folder=tmp_path / "parts", seed=1)
    (tmp_path / "parts" / "round_2" / "round.json").unlink()  # as if it had been killed in the second round
    before = (tmp_path / "parts" / "round_1" / "round.json").stat().st_mtime_ns
    parts = trainer().fit(manifest, output_folder=tmp_path / "parts", seed=1)
    assert (tmp_path / "parts" / "round_1" / "round.json").stat().st_mtime_ns == before
    wav = read_manifest(manifest)[5].wav
    assert (whole.encoder_.embed_file(wav) == parts.encoder_.embed_file(wav)).all()
    assert json.loads((tmp_path / "parts" / "round_2" / "round.json").read_text())["num_clusters"] == 4


@pytest.mark.slow
def test_an_encoder_that_stands_beside_is_in_clusters_and_result_and_not_trained(
    voices_folder: Path, tmp_path: Path
) -> None:
    manifest = read_manifest(voices_folder / "manifest.csv")
    beside = build_encoder("ecapa_tdnn", channels=8, embedding_dim=4, seed=1)
    with pytest.raises(InputError, match="encoder stands beside another encoder and is not whitened"):
        trainer(beside=beside)
    beside.fit_whitening(beside.embed_files(list(manifest)).embeddings)
    start = trainer().encoder
    start.fit_whitening(start.embed_files(list(manifest)).embeddings)
    given = {"beside": beside, "num_rounds": 1}
    learnt = replace(trainer(), encoder=start, **given).fit(manifest, output_folder=tmp_path / "out", seed=1)
    embedded = learnt.encoder_.embed_file(manifest[0].wav)
    alone = beside.embed_file(manifest[0].wav)
    np.testing.assert_allclose(embedded[16:], alone / np.linalg.norm(alone), atol=1e-5)
    assert np.abs(embedded[:16] - start.embed_file(manifest[0].wav)).max() > 1e-3
    assert read_embeddings(tmp_path / "out" / "round_1" / "embeddings").embeddings.shape == (16, 20)
    again = replace(trainer(), encoder=start, **given).fit(manifest, output_folder=tmp_path / "out", seed=1)
    assert (again.encoder_.embed_file(manifest[0].wav) == embedded).all()
    with pytest.raises(InputError, match="beside"):
        replace(trainer(num_rounds=1), encoder=start).fit(manifest, output_folder=tmp_path / "out", seed=1)


def test_another_run_in_the_folder_is_refused(voices_folder: Path, tmp_path: Path) -> None:
    manifest = voices_folder / "manifest.csv"
    trainer(num_rounds=1).fit(manifest, output_folder=tmp_path / "out", seed=1)
    with pytest.raises(InputError, match="num_subcenters: 2 -> 3"):
        trainer(num_rounds=1, num_subcenters=3).fit(manifest, output_folder=tmp_path / "out", seed=1)


def test_as_many_clusterings_as_rounds() -> None:
    with pytest.raises(InputError, match="1 clusterings for num_rounds = 2"):
        trainer(clustering=[Clustering(num_clusters=4)])
    with pytest.raises(InputError, match="at least one FineTuneStage"):
        trainer(stages=[{"train": "all"}])
    with pytest.raises(InputError, match="num_rounds = 0"):
        trainer(num_rounds=0)
