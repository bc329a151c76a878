"""A small real encoder, and voices to hear with it, for the tests of the evaluations."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from dino_speech.audio.io import AudioError, load_audio
from dino_speech.data.manifest import Manifest, Skipped, Utterance, read_manifest
from dino_speech.models.embed_files import Embeddings


class SpectrumEncoder(nn.Module):
    """Mean and deviation over frames of the log-spectrum in 16 bands: (B, time) -> (B, 32), no padding in them."""

    embedding_dim = 32
    min_samples = 1600
    device = torch.device("cpu")

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(32, affine=False)  # to see whether eval mode is set, and given back
        self.num_files = 0

    def forward(self, waves: Tensor, num_samples: Tensor | None = None) -> Tensor:
        lengths = [waves.shape[1]] * len(waves) if num_samples is None else num_samples.tolist()
        return self.norm(torch.stack([self._bands(wave[:n]) for wave, n in zip(waves, lengths, strict=True)]))

    @staticmethod
    def _bands(wave: Tensor) -> Tensor:
        power = torch.stft(wave, 512, 160, window=torch.hann_window(512), return_complex=True).abs()[:256] ** 2
        frames = (power.reshape(16, 16, -1).mean(dim=1) + 1e-6).log()
        return torch.cat([frames.mean(dim=1), frames.std(dim=1)])

    @torch.no_grad()
    def embed_file(self, path: str | Path) -> Tensor:
        self.num_files += 1
        return self.eval()(load_audio(path)[None])[0]

    def embed_files(self, utterances: Sequence[Utterance], *, on_error: str = "raise", **_: Any) -> Embeddings:
        ids, rows, failures = [], [], []
        for utterance in utterances:
            try:
                rows.append(self.embed_file(utterance.wav).numpy())
                ids.append(utterance.id)
            except AudioError as error:
                if on_error != "skip":
                    raise
                failures.append(Skipped(utterance.id, str(error)))
        return Embeddings(ids, np.stack(rows) if rows else np.zeros((0, 32), np.float32), failures)


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """The waves here are so short that threads would wait for each other longer than they work."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def encoder() -> SpectrumEncoder:
    return SpectrumEncoder().eval()


@pytest.fixture
def voices(voices_folder: Path) -> Manifest:
    """4 speakers x 4 files, columns speaker and emotion."""
    return read_manifest(voices_folder / "manifest.csv")


@pytest.fixture
def broken_voices(voices_folder: Path) -> Manifest:
    """The same, with one corrupt, one empty and one missing file."""
    (voices_folder / "spk0" / "0.wav").write_bytes(b"RIFF this is no wav")
    (voices_folder / "spk1" / "1.wav").write_bytes(b"")
    (voices_folder / "spk2" / "2.wav").unlink()
    return read_manifest(voices_folder / "manifest.csv")
