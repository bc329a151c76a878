"""What a network hears: log-mel frames, or the wave itself, computed on the device that the waves are on, in float32.

An utterance has the same frames whatever it is batched with: no frame reaches beyond its true samples, and every
statistic is taken over its true samples or frames only. Letters: `B` utterances, `T` frames, `F` mel bands. Masking of
frames for training is in `audio/spec_augment.py`.
"""

import math
from typing import Literal

import torch
from torch import Tensor, nn

from dino_speech.compatibility import require_torchaudio
from dino_speech.errors import InputError

MeanNorm = Literal["utterance", "window", "none"]
SILENCE = 1e-16  # mean square below which nothing is amplified further: far under one step of 24 bits
# What a CPU works on at once, 12 s: its spectra stay in the cache, where those of a whole batch would not. # ours
CPU_BLOCK_SAMPLES = 192_000
MIN_HOP_MS, MAX_WINDOW_MS, MAX_MELS = 1.0, 250.0, 1024  # ours: beyond, an encoder's folder asks for memory, not frames
VARIANCE_FLOOR = 1e-7  # of a whole wave, as in transformers' Wav2Vec2FeatureExtractor


class LogMel(nn.Module):
    """Waves to log-mel frames, always in float32 (also inside autocast).

    The steps: pre-emphasis, windowed power spectrum, mel bands, level normalisation, natural logarithm, mean
    normalisation. Frame `t` covers the samples `t * hop .. t * hop + window`, so that an utterance of `n` samples has
    `1 + (n - window) // hop` frames (398 for 4 s); the last samples that fill no window are not used.

    Args:
        num_mels: mel bands `F`.
        window_ms: length of the Hamming window.
        hop_ms: step from frame to frame.
        low_hz: lower edge of the first band.
        high_hz: upper edge of the last band.
        mean_norm: "utterance" subtracts each band's mean over the utterance's frames, "window" the mean over the
            `window_frames` around each frame (cut at the utterance's ends), "none" nothing.
        window_frames: odd width of the sliding window of `mean_norm="window"`.
        level_norm: as if each wave had been divided by the root mean square of its true samples, so that its loudness
            does not matter. Without it, loudness matters through `floor` (and through `mean_norm="none"`).
        pre_emphasis: coefficient `a` of `y[t] = x[t] - a x[t-1]`; 0 for none.
        floor: added to the mel energies before the logarithm, so that digital silence is `log(floor)` and not
            minus infinity. With `level_norm`, a stretch of the utterance whose energy lies below it counts as silence.
        sample_rate: Hz.

    Raises:
        InputError: an option is out of its range, or so many bands are asked for that some stay empty.

    Source:
        80 bands, 25/10 ms, 20-7600 Hz and the window of 150 frames on either side: arXiv 2208.05445 (the authors'
        configuration). Pre-emphasis and window: HTK's and Kaldi's habit. Level and floor: ours.
    """

    window: Tensor  # (window_samples,)
    mel_weights: Tensor  # (2 * bins, F): each bin's weights twice, for its real and its imaginary part

    def __init__(
        self,
        *,
        num_mels: int = 80,
        window_ms: float = 25.0,
        hop_ms: float = 10.0,
        low_hz: float = 20.0,
        high_hz: float = 7600.0,
        mean_norm: MeanNorm = "utterance",
        window_frames: int = 301,
        level_norm: bool = True,
        pre_emphasis: float = 0.97,
        floor: float = 1e-3,
        sample_rate: int = 16_000,
    ) -> None:
        super().__init__()
        if not MIN_HOP_MS <= hop_ms <= window_ms <= MAX_WINDOW_MS:
            bounds = f"{MIN_HOP_MS:g} <= hop_ms <= window_ms <= {MAX_WINDOW_MS:g}"
            raise InputError(f"hop_ms={hop_ms}, window_ms={window_ms}: expected {bounds}")
        if not 0 <= low_hz < high_hz <= sample_rate / 2:
            raise InputError(f"low_hz={low_hz}, high_hz={high_hz}: expected 0 <= low_hz < high_hz <= {sample_rate / 2}")
        if mean_norm not in ("utterance", "window", "none"):
            raise InputError(f"mean_norm={mean_norm!r}: expected 'utterance', 'window' or 'none'")
        if window_frames < 1 or window_frames % 2 == 0:
            raise InputError(f"window_frames={window_frames}: expected a positive odd number, such as 301")
        if not 0 <= pre_emphasis < 1:
            raise InputError(f"pre_emphasis={pre_emphasis}: expected at least 0 and less than 1")
        if not 0 < floor < math.inf:
            raise InputError(f"floor={floor}: expected a positive number, such as 1e-3")
        if num_mels not in range(1, MAX_MELS + 1):
            raise InputError(f"num_mels={num_mels}: expected a whole number from 1 to {MAX_MELS}")
        self.num_mels, self.num_bands, self.sample_rate = num_mels, num_mels, sample_rate
        self.mean_norm, self.window_frames = mean_norm, window_frames
        self.level_norm, self.pre_emphasis, self.floor = level_norm, pre_emphasis, floor
        self.window_samples = round(window_ms * sample_rate / 1000)
        self.hop_samples = round(hop_ms * sample_rate / 1000)
        self.fft_size = 2 ** math.ceil(math.log2(self.window_samples))
        # Not part of the state: the options say all.
        self.register_buffer("window", torch.hamming_window(self.window_samples, periodic=False), persistent=False)
        weights = self._mel_weights(low_hz, high_hz).repeat_interleave(2, dim=0)
        self.register_buffer("mel_weights", weights, persistent=False)

    def _mel_weights(self, low_hz: float, high_hz: float) -> Tensor:
        require_torchaudio()
        from torchaudio.functional import melscale_fbanks

        num_bins = self.fft_size // 2 + 1
        weights = melscale_fbanks(num_bins, low_hz, high_hz, self.num_mels, self.sample_rate)  # (bins, F)
        if empty := int((weights.sum(0) == 0).sum()):
            bins = f"the bins of a window of {self.window_samples} samples; use fewer bands or a longer window_ms"
            raise InputError(f"num_mels={self.num_mels}: {empty} bands fall between {bins}")
        return weights

    def num_frames(self, num_samples: Tensor) -> Tensor:
        """Frames of utterances of `num_samples` samples; works on ints too. Less than 1: shorter than one window."""
        return (num_samples - self.window_samples) // self.hop_samples + 1

    def num_samples(self, num_frames: int) -> int:
        """Samples of the shortest utterance with so many frames."""
        return self.window_samples + (num_frames - 1) * self.hop_samples

    def forward(self, waves: Tensor, num_samples: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        """A batch's frames (B, T, F) float32, zero beyond each utterance's end, and their numbers (B,) or None.

        Args:
            waves: (B, time) in [-1, 1], of any float type.
            num_samples: (B,) true lengths; what lies beyond is ignored. None: all waves are whole, which saves work.

        Raises:
            InputError: an utterance is shorter than one window, or longer than the batch.
        """
        shortest = _check_lengths(waves, num_samples)
        if shortest < self.window_samples:
            window = f"{self.window_samples} samples ({1000 * self.window_samples / self.sample_rate:g} ms)"
            raise InputError(f"an utterance of {shortest} samples is shorter than one window of {window}")
        with torch.autocast(waves.device.type, enabled=False):
            rows = max(1, CPU_BLOCK_SAMPLES // waves.shape[1]) if waves.device.type == "cpu" else len(waves)
            blocks = waves.split(rows)
            lengths = [None] * len(blocks) if num_samples is None else num_samples.split(rows)
            frames = [self._frames(*block) for block in zip(blocks, lengths, strict=True)]
        num_frames = None if num_samples is None else self.num_frames(num_samples)
        return frames[0] if len(frames) == 1 else torch.cat(frames), num_frames

    def _frames(self, waves: Tensor, num_samples: Tensor | None) -> Tensor:
        """(B, time) -> (B, T, F)."""
        waves = waves.float()
        log_mel = torch.log(self._mel_energies(waves) * self._gain(waves, num_samples) + self.floor)
        if num_samples is None:
            return self._subtract_mean(log_mel, None)
        mask = _mask(self.num_frames(num_samples), log_mel.shape[1])[:, :, None]
        return self._subtract_mean(log_mel * mask, mask)

    def _mel_energies(self, waves: Tensor) -> Tensor:
        """(B, time) -> (B, T, F)."""
        if self.pre_emphasis:
            emphasised = torch.sub(waves[:, 1:], waves[:, :-1], alpha=self.pre_emphasis)
            waves = torch.cat([waves[:, :1], emphasised], dim=1)
        # torch.stft sets the window in the middle of `fft_size` samples; the zeros beside it touch no sample.
        beside = self.fft_size - self.window_samples
        waves = nn.functional.pad(waves, (beside // 2, beside - beside // 2))
        spectrum = torch.stft(
            waves, self.fft_size, self.hop_samples, self.window_samples, self.window, center=False, return_complex=True
        )
        squares = torch.view_as_real(spectrum.transpose(1, 2)).square()  # (B, T, bins, 2)
        return squares.flatten(2) @ self.mel_weights

    def _gain(self, waves: Tensor, num_samples: Tensor | None) -> Tensor | float:
        """What the energies of each wave are multiplied with, (B, 1, 1): 1 / its mean square over the true samples."""
        if not self.level_norm:
            return 1.0
        true_waves = waves if num_samples is None else waves * _mask(num_samples, waves.shape[1])
        count = waves.shape[1] if num_samples is None else num_samples
        energy = torch.linalg.vector_norm(true_waves, dim=1).square() / count
        return 1 / energy.clamp(min=SILENCE)[:, None, None]

    def _subtract_mean(self, frames: Tensor, mask: Tensor | None) -> Tensor:
        if self.mean_norm == "none":
            return frames
        if mask is None:
            frames = frames - frames.mean(1, keepdim=True)
        else:
            frames = (frames - frames.sum(1, keepdim=True) / mask.sum(1, keepdim=True)) * mask
        if self.mean_norm == "utterance":
            return frames
        # The mean has gone already, so that the running sums stay small and float32 suffices.
        reach = self.window_frames // 2
        count = frames.new_ones(1, frames.shape[1], 1) if mask is None else mask.float()
        frames = frames - _window_sum(frames, reach) / _window_sum(count, reach).clamp(min=1)
        return frames if mask is None else frames * mask


class NormalizedWave(nn.Module):
    """Waves with zero mean and unit variance over their true samples, for networks that learn their own first layers.

    A "frame" is one sample here, and there is one band.

    Args:
        normalize: False leaves the waves as they are, which some checkpoints expect (their `preprocessor_config.json`
            says `do_normalize`).
        sample_rate: Hz.
    """

    num_bands = 1

    def __init__(self, *, normalize: bool = True, sample_rate: int = 16_000) -> None:
        super().__init__()
        self.normalize, self.sample_rate = normalize, sample_rate

    def num_samples(self, num_frames: int) -> int:
        """Samples of the shortest utterance with so many frames: as many."""
        return num_frames

    def forward(self, waves: Tensor, num_samples: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        """(B, time) and true lengths (B,) -> (B, time, 1) float32, zero beyond each true end, and the lengths.

        Raises:
            InputError: the waves have another shape, or an utterance is longer than the batch.
        """
        _check_lengths(waves, num_samples)
        with torch.autocast(waves.device.type, enabled=False):
            waves = waves.float()
            if num_samples is None:
                return self._level(waves, None, waves.shape[1])[:, :, None], None
            mask = _mask(num_samples, waves.shape[1])
            return self._level(waves * mask, mask, num_samples[:, None])[:, :, None], num_samples

    def _level(self, waves: Tensor, mask: Tensor | None, count: Tensor | int) -> Tensor:
        if not self.normalize:
            return waves
        centred = waves - waves.sum(1, keepdim=True) / count
        if mask is not None:
            centred = centred * mask
        variance = centred.square().sum(1, keepdim=True) / count
        return centred * (variance + VARIANCE_FLOOR).rsqrt()


def _check_lengths(waves: Tensor, num_samples: Tensor | None) -> int:
    """Samples of the shortest of `waves` (B, time); an error where the lengths cannot be."""
    if waves.ndim != 2:
        raise InputError(f"waves of shape {tuple(waves.shape)}: expected (B, time)")
    if num_samples is None:
        return waves.shape[1]
    shortest, longest = torch.stack([num_samples.min(), num_samples.max()]).tolist()
    if longest > waves.shape[1]:
        raise InputError(f"num_samples up to {longest}, but the waves have {waves.shape[1]} samples")
    return shortest


def _mask(lengths: Tensor, size: int) -> Tensor:
    """(B,) -> (B, size): True at the true positions."""
    return torch.arange(size, device=lengths.device) < lengths[:, None]


def _window_sum(x: Tensor, reach: int) -> Tensor:
    """Sum over `reach` positions on either side along dim 1, from differences of one running sum."""
    size = x.shape[1]
    running = nn.functional.pad(x.cumsum(1), (0, 0, 1, 0))  # (B, T + 1, F): sums of what lies before
    position = torch.arange(size, device=x.device)
    stop, start = (position + reach + 1).clamp(max=size), (position - reach).clamp(min=0)
    return running[:, stop] - running[:, start]
