"""Augment: rooms, noise, music, babble, filters and gain for a batch of N crops, each crop for itself.

A batch goes through in the order in which the world would have it: the room, then what else sounds in it, then the
recording's channel and level. Only the rows that are drawn are worked on, all at once, on the device that they are on.
Every random decision comes from one CPU generator, so that it is the same on every device.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from dino_speech.audio import effects
from dino_speech.audio.banks import LEAD_SAMPLES, NoiseBank, RoomBank
from dino_speech.audio.decoding import StrPath
from dino_speech.errors import InputError

Range = tuple[float, float]
NUM_EQUALISER_BANDS = 8  # ours: 405 mel from one to the next, the colour of a microphone rather than of a vowel


class Augment:
    """Augmentation of crops, on the training device.

    Args:
        noise: folder or manifest of noises (see `banks.list_sounds`), or a bank; None: built-in coloured noise.
        rir: the same of room responses; None: built-in synthetic rooms.
        p_noise: probability that something is added to a crop.
        kinds: what may be added, each as likely as the others. "music" is left out where the bank has none. "babble" is
            several talkers of the bank's speech, or, where it has none, of other crops in the batch.
        snr_db, music_snr_db, babble_snr_db: ranges of the signal-to-noise ratio for each kind, drawn uniformly.
        babble_talkers: range of the number of talkers; (1, 1) is one other speaker.
        p_reverb: probability that a crop is put in a room.
        max_rt60_s: rooms that reverberate longer are not used; None: all are.
        p_filter: probability of a random smooth equaliser, which hides the channel that crops of one recording share.
        filter_db: its levels are drawn from -filter_db to filter_db.
        p_band: probability of limiting the band, as a telephone does.
        band_low_hz, band_high_hz: ranges of its limits (-3 dB), drawn uniformly on a logarithmic axis.
        p_gain: probability of a change of level.
        gain_db: its range.
        exclude_noise: categories of `noise` to leave out.
        max_noise_s: seconds of noise kept in memory.

    Raises:
        InputError: a number is out of its range, or a bank cannot be made.

    Example:
        >>> crops = torch.randn(6, 16_000)
        >>> Augment()(crops, generator=torch.Generator().manual_seed(0)).shape
        torch.Size([6, 16000])

    Source: probabilities and ranges of noise, music, babble and rooms: Cho et al., arXiv 2208.05445, as in their
    configuration (hyperion, egs/voxceleb/v2/conf/reverb_noise_aug.yaml), which mixes MUSAN speech into babble. Filter,
    band and gain, off by default, are ours.
    """

    def __init__(
        self,
        *,
        noise: StrPath | NoiseBank | None = None,
        rir: StrPath | RoomBank | None = None,
        p_noise: float = 0.7,
        kinds: Sequence[str] = ("noise", "music", "babble"),
        snr_db: Range = (0.0, 18.0),
        music_snr_db: Range = (3.0, 18.0),
        babble_snr_db: Range = (3.0, 18.0),
        babble_talkers: tuple[int, int] = (3, 10),
        p_reverb: float = 0.45,
        max_rt60_s: float | None = 1.5,  # ours: the paper's rooms are small, medium and real
        p_filter: float = 0.0,
        filter_db: float = 12.0,
        p_band: float = 0.0,
        band_low_hz: Range = (50.0, 400.0),
        band_high_hz: Range = (3400.0, 7000.0),
        p_gain: float = 0.0,
        gain_db: Range = (-12.0, 6.0),
        exclude_noise: Sequence[str] = (),
        max_noise_s: float = 3600.0,
    ) -> None:
        self.settings: dict[str, Any] = {k: v for k, v in locals().items() if k not in ("self", "noise", "rir")}
        _check(self.settings)
        self.p_noise, self.p_reverb, self.p_gain, self.gain_db = p_noise, p_reverb, p_gain, gain_db
        self.p_filter, self.filter_db, self.p_band = p_filter, filter_db, p_band
        self.band_low_hz, self.band_high_hz, self.babble_talkers = band_low_hz, band_high_hz, babble_talkers
        if noise is None:
            noise = NoiseBank.synthetic()
        elif not isinstance(noise, NoiseBank):
            noise = NoiseBank.from_source(noise, max_total_s=max_noise_s, exclude=exclude_noise)
        if not isinstance(rir, RoomBank):
            rir = RoomBank.synthetic() if rir is None else RoomBank.from_source(rir)
        self.noise, self._all_rooms = noise, rir
        self.rooms = rir.within(max_rt60_s) if p_reverb > 0 else rir
        ranges = {"noise": snr_db, "music": music_snr_db, "babble": babble_snr_db}
        self.snr_ranges_db = {k: ranges[k] for k in kinds if k == "babble" or k in noise.of_kind}
        if p_noise > 0 and not self.snr_ranges_db:
            raise InputError(f"kinds={list(kinds)}: the noise bank has only {', '.join(noise.of_kind)}")

    def milder(self, **changes: Any) -> "Augment":
        """The same with a teacher's milder setting: fewer and smaller rooms, noise at higher SNR; the banks are shared.

        Args:
            changes: any argument of the constructor, to differ further from this one's.

        Source: hyperion, egs/voxceleb/ssl.v1, teacher augmentation: reverberation 0.3 in small rooms, SNR 10 to 28 dB
        for noise, 13 to 28 dB for music and babble. What small means is ours: RT60 to 0.4 s.
        """
        levels = {"snr_db": (10.0, 28.0), "music_snr_db": (13.0, 28.0), "babble_snr_db": (13.0, 28.0)}
        mild = {"p_reverb": 0.3, "max_rt60_s": 0.4, **levels}
        return Augment(**{**self.settings, **mild, "noise": self.noise, "rir": self._all_rooms, **changes})

    @torch.no_grad()
    def __call__(self, waves: Tensor, *, generator: torch.Generator, groups: Tensor | None = None) -> Tensor:
        """Augment (N, time) at 16 kHz, on any device: (N, time) float32, new; unchanged where nothing was drawn.

        Args:
            waves: the crops.
            generator: a CPU generator, the only source of randomness.
            groups: (N,) which utterance each crop is of: babble for a crop is never made of its own. None: all differ.

        Raises:
            InputError: the waves are not (N, time), or the generator is not the CPU's.
        """
        if waves.ndim != 2 or generator.device.type != "cpu":
            problem = f"waves of shape {tuple(waves.shape)}, generator on {generator.device}: expected (N, time)"
            raise InputError(f"{problem} and a CPU generator, so that what is drawn is the same on every device")
        with torch.autocast(waves.device.type, enabled=False):
            augmented = waves.detach().to(torch.float32, copy=True)
            self._reverberate(augmented, generator)
            self._add_noise(augmented, waves.float(), generator, groups)
            self._filter(augmented, generator)
            self._change_level(augmented, generator)
        return augmented

    def _reverberate(self, waves: Tensor, generator: torch.Generator) -> None:
        rows = _chosen(len(waves), self.p_reverb, generator).to(waves.device)
        if len(rows):
            responses = self.rooms.draw(len(rows), generator, waves.device)
            waves[rows] = effects.convolve(waves[rows], responses, lead=LEAD_SAMPLES)

    def _add_noise(self, waves: Tensor, clean: Tensor, generator: torch.Generator, groups: Tensor | None) -> None:
        rows = _chosen(len(waves), self.p_noise, generator)
        kind_of = torch.randint(max(1, len(self.snr_ranges_db)), (len(rows),), generator=generator)
        wave_power = effects.power(waves)
        for number, (kind, (low, high)) in enumerate(self.snr_ranges_db.items()):
            of_kind = rows[kind_of == number]
            if len(of_kind) == 0:
                continue
            snr_db = low + (high - low) * torch.rand(len(of_kind), generator=generator)
            if kind != "babble":
                noise = self.noise.draw(kind, len(of_kind), waves.shape[1], generator, waves.device)
            elif "speech" in self.noise.of_kind:
                noise = self._babble_from_bank(len(of_kind), waves.shape[1], generator, waves.device)
            else:
                noise = self._babble_from_batch(of_kind, clean, generator, groups)
            of_kind = of_kind.to(waves.device)
            scale = effects.noise_scale(wave_power[of_kind], effects.power(noise), snr_db.to(waves.device))
            waves.index_add_(0, of_kind, noise.mul_(scale[:, None]))

    def _babble_from_bank(self, num: int, num_samples: int, generator: torch.Generator, device: torch.device) -> Tensor:
        fewest, most = self.babble_talkers
        num_talkers = torch.randint(fewest, most + 1, (num,), generator=generator)
        talkers = self.noise.draw("speech", int(num_talkers.sum()), num_samples, generator, device)
        talkers *= effects.power(talkers).sqrt().clamp_min(1e-6).reciprocal()[:, None]
        rows = torch.arange(num).repeat_interleave(num_talkers).to(device)
        return torch.zeros(num, num_samples, device=device).index_add_(0, rows, talkers)

    def _babble_from_batch(
        self, rows: Tensor, clean: Tensor, generator: torch.Generator, groups: Tensor | None
    ) -> Tensor:
        """Talkers equally loud, drawn without repetition; zero where the batch holds no other utterance."""
        groups = torch.arange(len(clean)) if groups is None else groups.cpu()
        others = groups[None, :] != groups[rows, None]  # (rows, N)
        fewest, most = self.babble_talkers
        num_talkers = torch.randint(fewest, most + 1, (len(rows), 1), generator=generator)
        order = (torch.rand(others.shape, generator=generator) + others).argsort(dim=1, descending=True).argsort(dim=1)
        talking = (others & (order < num_talkers)).to(clean)
        return (talking / effects.power(clean).sqrt().clamp_min(1e-6)) @ clean

    def _filter(self, waves: Tensor, generator: torch.Generator) -> None:
        """Equaliser and band limits in one pass over the spectrum."""
        equalised = torch.rand(len(waves), generator=generator) < self.p_filter
        limited = torch.rand(len(waves), generator=generator) < self.p_band
        rows = (equalised | limited).nonzero()[:, 0]
        if len(rows) == 0:
            return
        num_frequencies = effects.filter_size(waves.shape[1]) // 2 + 1
        levels = (2 * torch.rand(len(rows), NUM_EQUALISER_BANDS, generator=generator) - 1) * self.filter_db
        gains = effects.equaliser_gains((levels * equalised[rows, None]).to(waves.device), num_frequencies)
        banded = limited[rows].nonzero()[:, 0]
        limits = (self.band_low_hz, self.band_high_hz)
        low_hz, high_hz = (a * (b / a) ** torch.rand(len(banded), generator=generator) for a, b in limits)
        band = effects.band_gains(low_hz.to(waves.device), high_hz.to(waves.device), num_frequencies)
        gains[banded.to(waves.device)] *= band
        rows = rows.to(waves.device)
        waves[rows] = effects.apply_gains(waves[rows], gains)

    def _change_level(self, waves: Tensor, generator: torch.Generator) -> None:
        rows = _chosen(len(waves), self.p_gain, generator)
        low, high = self.gain_db
        level_db = low + (high - low) * torch.rand(len(rows), 1, generator=generator)
        waves[rows.to(waves.device)] *= (10 ** (level_db / 20)).to(waves.device)


def _chosen(num: int, probability: float, generator: torch.Generator) -> Tensor:
    """The rows that something happens to."""
    return (torch.rand(num, generator=generator) < probability).nonzero()[:, 0]


def _check(settings: dict[str, Any]) -> None:
    ranges = [name for name in settings if name.endswith(("snr_db", "gain_db", "_hz"))] + ["babble_talkers"]
    for name, value in settings.items():
        if name.startswith("p_") and not 0 <= value <= 1:
            raise InputError(f"{name}={value}: expected a probability from 0 to 1")
        if name in ranges and not (len(value) == 2 and value[0] <= value[1]):
            raise InputError(f"{name}={value}: expected two numbers, the lower one first")
        if name in ("band_low_hz", "band_high_hz", "babble_talkers") and not value[0] > 0:
            raise InputError(f"{name}={value}: expected numbers above 0")
    if unknown := set(settings["kinds"]) - {"noise", "music", "babble"}:
        raise InputError(f"kinds: {', '.join(sorted(unknown))} unknown; expected some of noise, music, babble")
