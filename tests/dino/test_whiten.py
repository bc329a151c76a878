"""The last touch: a finished encoder's embeddings have unit covariance over its training speech."""

import json
import multiprocessing
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
import torch.distributed as dist

from dino_speech import DINOPretrainer, MultiCrop, SpeechEncoder, build_encoder, load_encoder, read_manifest
from dino_speech.dino.whiten import whiten
from dino_speech.errors import InputError

SMALL = {"head": {"num_prototypes": 16, "hidden_dim": 16, "bottleneck_dim": 8}, "run": {"num_workers": 0}}
SMALL |= {"schedule": {"length": 2, "batch_size": 4}}


def small_encoder(*, embedding_dim: int = 8, **options: bool) -> SpeechEncoder:
    return build_encoder("ecapa_tdnn", embedding_dim=embedding_dim, channels=16, seed=0, **options)


def test_embeddings_are_white_over_the_utterances_it_was_fitted_on(voices_folder: Path) -> None:
    manifest = read_manifest(voices_folder / "manifest.csv")
    encoder = small_encoder()
    whiten(encoder, manifest, 100, 0.0, seed=1)
    white = encoder.embed_files(manifest).embeddings
    np.testing.assert_allclose(white.mean(0), 0.0, atol=1e-3)
    np.testing.assert_allclose(np.cov(white.T), np.eye(8), atol=1e-2)


def test_the_draw_follows_the_seed(voices_folder: Path) -> None:
    manifest = read_manifest(voices_folder / "manifest.csv")
    maps = []
    for seed in (1, 1, 2):
        encoder = small_encoder(embedding_dim=4)
        whiten(encoder, manifest, 9, 0.1, seed=seed)
        maps.append(encoder.whitening.projection.numpy())
    np.testing.assert_array_equal(maps[0], maps[1])
    assert np.abs(maps[0] - maps[2]).max() > 1e-3


@pytest.mark.slow
def test_pretraining_leaves_a_whitened_encoder_and_going_on_does_not_whiten_twice(
    voices_folder: Path, tmp_path: Path
) -> None:
    def train(shrinkage: float) -> DINOPretrainer:
        trainer = DINOPretrainer(
            small_encoder(statistics_shortcut=True),
            MultiCrop(num_long=2, long_s=1.0, num_short=1, short_s=0.5),
            **SMALL,
            whitening={"shrinkage": shrinkage},
        )
        return trainer.fit(voices_folder / "manifest.csv", output_folder=tmp_path / "run", seed=3)

    first = train(0.1)
    saved = load_encoder(tmp_path / "run" / "encoder")
    wav = voices_folder / "spk0" / "0.wav"
    np.testing.assert_allclose(saved.embed_file(wav), first.teacher_encoder_.embed_file(wav), atol=1e-6)
    assert json.loads((tmp_path / "run" / "encoder" / "encoder.json").read_text())["whitening"] is True
    train(0.1)
    again = load_encoder(tmp_path / "run" / "encoder")
    np.testing.assert_allclose(again.embed_file(wav), saved.embed_file(wav), atol=1e-6)
    train(0.9)
    other = load_encoder(tmp_path / "run" / "encoder")
    assert np.abs(other.embed_file(wav) - saved.embed_file(wav)).max() > 1e-3, "a finished run can be whitened anew"


def test_too_few_utterances_are_not_enough(voices_folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    encoder = small_encoder(embedding_dim=16)
    whiten(encoder, read_manifest(voices_folder / "manifest.csv"), 100, 0.1, seed=1)
    assert encoder.whitening is None
    assert "16 utterance(s) for 16 dimensions" in caplog.text


def test_a_share_outside_its_range_is_refused() -> None:
    with pytest.raises(InputError, match="whitening: shrinkage = 2"):
        DINOPretrainer(small_encoder(), MultiCrop(), whitening={"shrinkage": 2})


@pytest.mark.slow
def test_pretraining_goes_on_from_a_whitened_encoder_by_the_same_map(voices_folder: Path, tmp_path: Path) -> None:
    manifest = read_manifest(voices_folder / "manifest.csv")
    encoder = small_encoder()
    whiten(encoder, manifest, 100, 0.1, seed=1)
    crops = MultiCrop(num_long=2, long_s=1.0, num_short=1, short_s=0.5)
    trainer = DINOPretrainer(encoder, crops, **SMALL)
    trainer.fit(manifest, output_folder=tmp_path / "run")
    trained = load_encoder(tmp_path / "run" / "encoder")
    np.testing.assert_array_equal(trained.whitening.projection.numpy(), encoder.whitening.projection.numpy())
    assert np.abs(trained.embed_file(manifest[0].wav) - encoder.embed_file(manifest[0].wav)).max() > 1e-4
    trainer = DINOPretrainer(encoder, crops, **SMALL, whitening={"shrinkage": 0.1})
    with pytest.raises(InputError, match="whitens its embeddings already"):
        trainer.fit(manifest, output_folder=tmp_path / "again")


def _whiten_as_one_of(size: int, number: int, manifest: Path, output: Path) -> None:
    torch.set_num_threads(1)
    meeting_place = f"file://{output}/meeting_place_{size}"
    dist.init_process_group("gloo", init_method=meeting_place, rank=number, world_size=size)
    encoder = small_encoder(embedding_dim=4)
    whiten(encoder, read_manifest(manifest), 14, 0.1, seed=1)
    torch.save(encoder.whitening.state_dict(), output / f"{size}-{number}.pt")
    dist.destroy_process_group()


@pytest.mark.slow
@pytest.mark.parametrize("size", [2, 4])
def test_processes_that_share_the_work_find_the_map_of_one(size: int, voices_folder: Path, tmp_path: Path) -> None:
    manifest = voices_folder / "manifest.csv"
    encoder = small_encoder(embedding_dim=4)
    whiten(encoder, read_manifest(manifest), 14, 0.1, seed=1)
    fork = multiprocessing.get_context("fork")  # nothing need be imported again
    runs = [fork.Process(target=_whiten_as_one_of, args=(size, number, manifest, tmp_path)) for number in range(size)]
    for run in runs:
        run.start()
    for run in runs:
        run.join(120)
        assert run.exitcode == 0
    for number in range(size):
        found = torch.load(tmp_path / f"{size}-{number}.pt", weights_only=True)
        for name, wanted in encoder.whitening.state_dict().items():
            print(size, name, float((found[name] - wanted).abs().max() / wanted.abs().max()))
            torch.testing.assert_close(found[name], wanted, rtol=1e-4, atol=1e-5 * float(wanted.abs().max()))


def test_of_a_long_recording_a_span_is_heard(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    waves = np.random.default_rng(0).standard_normal((8, 16_000 * 3)).astype(np.float32) * 0.1
    rows = ["ID,duration,wav"]
    for number, wave in enumerate(waves):
        soundfile.write(tmp_path / f"{number}.wav", wave, 16_000)
        rows.append(f"{number},3.0,{number}.wav")
    (tmp_path / "m.csv").write_text("\n".join(rows) + "\n")
    heard: list[tuple[str, int, int]] = []
    encoder = small_encoder(embedding_dim=4)
    embed_files = encoder.embed_files

    def listen(items, **options):
        heard.extend((item.id, item.start, item.stop) for item in items)
        return embed_files(items, **options)

    monkeypatch.setattr(encoder, "embed_files", listen)
    monkeypatch.setattr("dino_speech.dino.whiten.MAX_S", 1.0)
    whiten(encoder, read_manifest(tmp_path / "m.csv"), 8, 0.1, seed=1)
    assert sorted(name for name, _, _ in heard) == sorted(map(str, range(8)))
    assert all(stop - start == 16_000 and start >= 0 and stop <= 48_000 for _, start, stop in heard)
    assert len({start for _, start, _ in heard}) == 8
    assert encoder.whitening is not None
