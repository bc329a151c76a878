"""SpeechEncoder: batches, files, spans, failures, modes, copies."""

import copy
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from dino_speech.audio.io import load_audio
from dino_speech.data.manifest import read_manifest
from dino_speech.data.utterances import Utterance
from dino_speech.errors import InputError
from dino_speech.models.encoder import SpeechEncoder
from dino_speech.models.encoder_config import EncoderConfig
from dino_speech.models.evaluation_mode import evaluating
from dino_speech.models.registry import build_encoder

Tone = Callable[..., np.ndarray]
WriteWav = Callable[..., Path]


@pytest.fixture
def encoder() -> SpeechEncoder:
    encoder = build_encoder("ecapa_tdnn", embedding_dim=16, channels=16, seed=0)
    encoder(torch.randn(8, 8_000))  # moves the BatchNorm statistics off their initial values
    return encoder.eval()


def test_forward_is_features_then_network(encoder: SpeechEncoder) -> None:
    waves, num_samples = torch.randn(2, 9_000), torch.tensor([9_000, 6_000])
    frames, num_frames = encoder.extract_features(waves, num_samples)
    assert torch.equal(encoder(waves, num_samples), encoder.embed_frames(frames, num_frames))


@pytest.mark.slow
def test_files_equal_files_one_by_one(encoder: SpeechEncoder, voices_folder: Path) -> None:
    paths = sorted(voices_folder.rglob("*.wav"))
    paths = paths[1::2] + paths[::2]  # not in order of length
    alone = np.stack([encoder(load_audio(path)[None]).detach().numpy()[0] for path in paths])
    for options in ({}, {"batch_s": 4.0}, {"batch_s": 0.1}, {"num_workers": 3, "batch_s": 5.0}):
        result = encoder.embed_files(paths, **options)
        assert result.ids == [str(path) for path in paths]
        assert result.embeddings.dtype == np.float32
        assert not result.failures
        np.testing.assert_allclose(result.embeddings, alone, atol=1e-4)
    np.testing.assert_allclose(encoder.embed_file(paths[0]).numpy(), alone[0], atol=1e-5)


def test_bfloat16_is_near_float32_and_leaves_no_trace(encoder: SpeechEncoder, voices_folder: Path) -> None:
    paths = sorted(voices_folder.rglob("*.wav"))
    whole = encoder.embed_files(paths).embeddings
    half = encoder.embed_files(paths, precision="bf16").embeddings
    assert half.dtype == np.float32
    assert not np.array_equal(half, whole)
    cosines = (half * whole).sum(1) / np.linalg.norm(half, axis=1) / np.linalg.norm(whole, axis=1)
    assert cosines.min() > 0.999
    assert np.array_equal(encoder.embed_files(paths).embeddings, whole)
    with pytest.raises(InputError, match="precision"):
        encoder.embed_files(paths, precision="int8")


def test_utterances_honour_their_span(encoder: SpeechEncoder, voices_folder: Path) -> None:
    manifest = read_manifest(voices_folder / "manifest.csv")
    whole = encoder.embed_files(manifest)
    assert whole.ids == [utterance.id for utterance in manifest]
    path = manifest[3].wav
    # The duration is wrong on purpose: it may cost speed, never a result.
    spans = [Utterance("a", path, 99.0, 1_600, 12_800), Utterance("b", path, 0.1, None, 9_600)]
    result = encoder.embed_files(spans)
    wave = load_audio(path)
    expected = [encoder(wave[None, 1_600:12_800]), encoder(wave[None, :9_600])]
    np.testing.assert_allclose(result.embeddings, torch.cat(expected).detach().numpy(), atol=1e-4)
    torch.testing.assert_close(encoder.embed_file(path, start=1_600, stop=12_800), expected[0][0], atol=1e-4, rtol=0)


def test_bad_files_are_listed_or_stop_the_work(encoder: SpeechEncoder, tone: Tone, write_wav: WriteWav) -> None:
    good = [write_wav("a.wav", tone(1.0)), write_wav("b.wav", tone(0.2))]
    nan = tone(0.5)
    nan[100] = np.nan
    soundfile.write(good[0].parent / "nan.wav", nan, 16_000, subtype="FLOAT")
    (good[0].parent / "corrupt.wav").write_bytes(b"RIFF0000WAVEjunk")
    bad = {
        write_wav("short.wav", tone(0.05)): r"short.wav: 0.05 s long; this encoder needs at least 0.1 s",
        write_wav("silent.wav", np.zeros(8_000, np.float32)): r"silent.wav: silent",
        good[0].parent / "nan.wav": "NaN or Inf samples",
        good[0].parent / "corrupt.wav": "corrupt.wav",
        good[0].parent / "absent.wav": "absent.wav",
    }
    result = encoder.embed_files([good[0], *bad, good[1]], on_error="skip")
    assert result.ids == [str(path) for path in good]
    assert [failure.name for failure in result.failures] == [str(path) for path in bad]
    for path, message in bad.items():
        with pytest.raises(InputError, match=message):
            encoder.embed_files([good[0], path])
    origin = Utterance("x", str(good[0].parent / "absent.wav"), 1.0, origin="train.csv row 7")
    with pytest.raises(InputError, match=r"train.csv row 7: .*absent.wav"):
        encoder.embed_files([origin])


def test_no_files_are_no_embeddings(encoder: SpeechEncoder) -> None:
    result = encoder.embed_files([])
    assert result.embeddings.shape == (0, 16)
    assert result.ids == []


def test_broken_weights_are_named(encoder: SpeechEncoder, tone: Tone, write_wav: WriteWav) -> None:
    path = write_wav("a.wav", tone(0.5))
    encoder.backbone.model.fc.conv.bias.data[0] = torch.nan
    with pytest.raises(InputError, match=r"a.wav: its embedding is NaN or Inf; are the weights sound"):
        encoder.embed_file(path)


@pytest.mark.parametrize(
    ("options", "message"), [({"on_error": "ignore"}, "'raise' or 'skip'"), ({"batch_s": 0}, "batch_s=0")]
)
def test_wrong_options_are_refused(encoder: SpeechEncoder, options: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        encoder.embed_files([], **options)
    with pytest.raises(InputError, match="a list of paths"):
        encoder.embed_files("a.wav")


def test_progress_goes_to_stderr(
    encoder: SpeechEncoder, tone: Tone, write_wav: WriteWav, capsys: pytest.CaptureFixture[str]
) -> None:
    encoder.embed_files([write_wav("a.wav", tone(0.5))], progress=True)
    captured = capsys.readouterr()
    assert "1/1" in captured.err
    assert captured.out == ""


def test_embedding_leaves_modes_and_statistics_alone(encoder: SpeechEncoder, tone: Tone, write_wav: WriteWav) -> None:
    encoder.train()
    frozen = encoder.backbone.model.blocks[0].eval()
    before = copy.deepcopy(encoder.state_dict())
    encoder.embed_file(write_wav("a.wav", tone(0.5)))
    assert encoder.training
    assert encoder.backbone.training
    assert not frozen.training
    for name, value in encoder.state_dict().items():
        assert torch.equal(value, before[name]), name


def test_modes_come_back_after_an_error(encoder: SpeechEncoder) -> None:
    encoder.train()
    with pytest.raises(ZeroDivisionError), evaluating(encoder):
        1 / int(encoder.training)
    assert encoder.training


def test_a_deep_copy_is_independent(encoder: SpeechEncoder) -> None:
    waves, num_samples = torch.randn(2, 9_000), torch.tensor([9_000, 5_000])
    twin = copy.deepcopy(encoder)
    expected = encoder(waves, num_samples)
    for parameter in encoder.parameters():
        parameter.data.zero_()
    assert torch.equal(twin(waves, num_samples), expected)
    assert not torch.equal(encoder(waves, num_samples), expected)


def test_gain_and_short_files(encoder: SpeechEncoder, tone: Tone) -> None:
    wave = torch.from_numpy(tone(0.2))[None]
    assert encoder(wave).isfinite().all()
    torch.testing.assert_close(encoder(0.01 * wave), encoder(wave), rtol=0, atol=1e-4)
    assert encoder.min_samples == 1_600
    sparse = build_encoder("ecapa_tdnn", channels=16, window_ms=64.0, hop_ms=64.0, num_mels=40)
    assert sparse.min_samples == 1024 + 4 * 1024


def test_configuration_goes_there_and_back(encoder: SpeechEncoder) -> None:
    data = encoder.config.to_dict()
    assert EncoderConfig.from_dict(data) == encoder.config
    with pytest.raises(InputError, match=r"unknown keys \['hidden'\], missing keys \['name'\]"):
        EncoderConfig.from_dict({"embedding_dim": 3, "hidden": 1})


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_a_gpu_gives_the_same_embeddings(encoder: SpeechEncoder, voices_folder: Path) -> None:
    paths = sorted(voices_folder.rglob("*.wav"))
    on_cpu = encoder.embed_files(paths).embeddings
    on_gpu = encoder.to("cuda").embed_files(paths).embeddings
    assert encoder.device.type == "cuda"
    np.testing.assert_allclose(on_gpu, on_cpu, atol=1e-2 * np.abs(on_cpu).max())  # TF32 convolutions


@pytest.mark.slow
@pytest.mark.corpus
def test_real_speech_does_not_depend_on_its_batch(encoder: SpeechEncoder, data_root: Path) -> None:
    manifest = read_manifest(data_root / "speakers_more" / "manifest.csv", where={"split": "test"}).subset(range(40))
    together = encoder.embed_files(manifest, batch_s=60.0)
    alone = encoder.embed_files(manifest, batch_s=0.1)
    assert together.ids == alone.ids
    assert np.abs(together.embeddings - alone.embeddings).max() < 1e-4


def test_a_transform_gets_each_wave_with_its_id(encoder: SpeechEncoder, voices_folder: Path) -> None:
    manifest = read_manifest(voices_folder / "manifest.csv")
    heard: dict[str, int] = {}

    def halve(wave: torch.Tensor, name: str) -> torch.Tensor:
        heard[name] = len(wave)
        if name == "spk0_0":
            raise InputError("spk0_0: cannot be halved")
        return wave[: len(wave) // 2]

    found = encoder.embed_files(manifest, transform=halve, num_workers=2, on_error="skip")
    assert {name: length / 16_000 for name, length in heard.items()} == {u.id: u.duration for u in manifest}
    assert [(item.name, item.reason) for item in found.failures] == [("spk0_0", "spk0_0: cannot be halved")]
    for name, row in zip(found.ids, found.embeddings, strict=True):
        wave = load_audio(manifest[manifest.by_id()[name]].wav)
        assert row == pytest.approx(encoder(wave[None, : len(wave) // 2]).detach().numpy()[0], abs=1e-4)
