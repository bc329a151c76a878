"""Noises and room responses for augmentation: decoded once, kept in memory, drawn from at random.

A bank is made from a collection, which is a manifest (CSV with `wav` or `path`, relative to it, and optionally `kind`,
`category`, `rt60_s`) or a folder; or by synthesis where a person has neither. Effects are in `effects.py`.
"""

import csv
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from dino_speech.audio.decoding import AudioError, StrPath, decode_blocks, header_of, open_audio, resample
from dino_speech.audio.effects import coloured_noise, reverberation_time, room_responses
from dino_speech.audio.io import SAMPLE_RATE, audio_info, find_audio, load_audio, seconds_to_samples
from dino_speech.errors import InputError

MIN_CLIP_S = 10.0  # ours: of many long files each gives at least this much, then some files are left out
LEAD_SAMPLES = 40  # 2.5 ms: what of a response is kept before its direct sound
FADE_SAMPLES = 160  # 10 ms
KINDS = ("noise", "music", "speech", "rir")


@dataclass(frozen=True, slots=True)
class Sound:
    """One file of a noise or room collection."""

    path: Path
    kind: str
    category: str
    rt60_s: float | None


def list_sounds(source: StrPath, *, exclude: Sequence[str] = ()) -> list[Sound]:
    """The files of a noise or room collection.

    Args:
        source: a manifest; or a folder, which may hold a `manifest.csv`. In a folder without one, the kind of a file is
            the name of a folder above it (`noise`, `music`, `speech` as in MUSAN, `rir`), else "noise".
        exclude: categories to leave out (column `category`; in a folder, the name of the file's own folder).
    """
    source = Path(source)
    manifest = source / "manifest.csv" if source.is_dir() else source
    sounds = _from_manifest(manifest) if manifest.is_file() else [_from_path(p, source) for p in find_audio(source)]
    categories = {sound.category for sound in sounds}
    for name in exclude:
        if name not in categories:
            raise InputError(f"{source}: no category {name!r} to leave out; it has {', '.join(sorted(categories))}")
    kept = [sound for sound in sounds if sound.category not in exclude]
    if not kept:
        raise InputError(f"{source}: nothing is left of {len(sounds)} sounds; leave fewer categories out")
    return kept


def _from_path(path: Path, folder: Path) -> Sound:
    above = [part.lower() for part in path.relative_to(folder).parts[:-1]]
    kind = next((part for part in above if part in KINDS), "noise")
    return Sound(path, kind, above[-1] if above else "", None)


def _from_manifest(manifest: Path) -> list[Sound]:
    try:
        with manifest.open(newline="", encoding="utf-8-sig") as file:
            rows = list(csv.DictReader(file))
    except (UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{manifest}: no table ({error}); expected CSV in UTF-8") from error
    sounds = []
    for number, row in enumerate(rows, start=2):
        path, kind = row.get("wav") or row.get("path"), row.get("kind") or "noise"
        kind = "speech" if kind == "babble" else kind
        if not path:
            raise InputError(f"{manifest} row {number}: no path; expected a column `wav` or `path`")
        if kind not in KINDS:
            raise InputError(f"{manifest} row {number}: kind is {kind!r}; expected one of {', '.join(KINDS)}")
        try:
            rt60_s = float(row["rt60_s"]) if row.get("rt60_s") else None
        except ValueError:
            raise InputError(f"{manifest} row {number}: rt60_s is {row['rt60_s']!r}; expected seconds") from None
        sounds.append(Sound(manifest.parent / path, kind, row.get("category") or "", rt60_s))
    if not sounds:
        raise InputError(f"{manifest}: no sounds; expected a row per file below the line of column names")
    return sounds


class NoiseBank:
    """Clips of noise, music and speech, (time,) at 16 kHz each, from which windows of any length are drawn.

    Each clip of a kind is equally likely, each window of a clip too; a clip shorter than the window is repeated.
    """

    def __init__(self, clips: Sequence[Tensor], kinds: Sequence[str]) -> None:
        self.clips = list(clips)
        self.of_kind = {kind: torch.tensor([i for i, k in enumerate(kinds) if k == kind]) for kind in sorted({*kinds})}
        self.lengths = torch.tensor([len(clip) for clip in self.clips])
        self._reach = 0  # the longest window that the layout is made for
        self._flat: dict[torch.device, Tensor] = {}
        self._begins = torch.empty(0, dtype=torch.long)

    @classmethod
    def from_source(
        cls, source: StrPath, *, max_total_s: float = 3600.0, exclude: Sequence[str] = (), seed: int = 0
    ) -> "NoiseBank":
        """Decode a collection (see `list_sounds`); room responses in it are passed over.

        Of more than `max_total_s` (an hour is 230 MB of memory), every file gives an equal share from a random place;
        shares under 10 s are avoided by leaving files out at random.
        """
        sounds = [sound for sound in list_sounds(source, exclude=exclude) if sound.kind != "rir"]
        if not sounds:
            raise InputError(f"{source}: holds room responses only; expected kinds noise, music or speech")
        generator = torch.Generator().manual_seed(seed)
        share = seconds_to_samples(max(MIN_CLIP_S, max_total_s / len(sounds)))
        kept: list[tuple[Tensor, str]] = []
        left = seconds_to_samples(max_total_s)
        for i in torch.randperm(len(sounds), generator=generator).tolist():
            if left <= 0:
                break
            room = max(0, audio_info(sounds[i].path).num_samples_at() - share)
            start = int(torch.randint(room + 1, (), generator=generator))
            clip = _without_silent_ends(load_audio(sounds[i].path, start=start, stop=start + share))
            if len(clip):
                kept.append((clip, sounds[i].kind))
                left -= len(clip)
        if not kept:
            raise InputError(f"{source}: every sound in it is silent")
        return cls([clip for clip, _ in kept], [kind for _, kind in kept])

    @classmethod
    def synthetic(cls, *, num_clips: int = 24, clip_s: float = 10.0, seed: int = 0) -> "NoiseBank":
        """Coloured noise, from white to brown (power 1/f^0 to 1/f^2), for those who have no recordings of noise."""
        generator = torch.Generator().manual_seed(seed)
        clips = coloured_noise(seconds_to_samples(clip_s), torch.linspace(0, 2, num_clips), generator)  # ours
        return cls(list(clips), ["noise"] * num_clips)

    def draw(
        self, kind: str, num: int, num_samples: int, generator: torch.Generator, device: torch.device | str = "cpu"
    ) -> Tensor:
        """Draw `num` windows of a kind: (num, num_samples) float32, of the level they were recorded at.

        They come on `device`, where the bank is copied once; the generator is the CPU's.
        """
        flat, begins = self._lay_out(num_samples, torch.device(device))
        chosen = self.of_kind[kind][torch.randint(len(self.of_kind[kind]), (num,), generator=generator)]
        lengths = self.lengths[chosen]
        room = torch.where(lengths >= num_samples, lengths - num_samples + 1, lengths)
        offsets = (torch.rand(num, generator=generator, dtype=torch.float64) * room).long()
        starts = (begins[chosen] + offsets).to(flat.device)
        return flat.unfold(0, num_samples, 1)[starts]

    def draw_one(self, kind: str, num_samples: int, generator: torch.Generator) -> Tensor:
        """One window, (num_samples,), as `draw` gives it, but of the clips as they are: safe in several threads."""
        chosen = int(torch.randint(len(self.of_kind[kind]), (), generator=generator))
        clip = self.clips[int(self.of_kind[kind][chosen])]
        room = len(clip) - num_samples + 1 if len(clip) >= num_samples else len(clip)
        offset = int(torch.randint(room, (), generator=generator))
        from_there = clip[offset:] if len(clip) >= num_samples else clip.roll(-offset)
        return _repeat(from_there, num_samples)

    def _lay_out(self, num_samples: int, device: torch.device) -> tuple[Tensor, Tensor]:
        """All clips in one row, each short one repeated so far that a window may begin anywhere in it; their begins."""
        if num_samples > self._reach:
            reach = self._reach = num_samples
            repeated = [clip if len(clip) >= reach else _repeat(clip, len(clip) + reach) for clip in self.clips]
            ends = torch.tensor([len(clip) for clip in repeated]).cumsum(0)
            self._begins = ends - torch.tensor([len(clip) for clip in repeated])
            flat = torch.cat(repeated)
            # Views, so that the clips are not in memory twice.
            self.clips = [flat[b : b + n] for b, n in zip(self._begins.tolist(), self.lengths.tolist(), strict=True)]
            self._flat = {torch.device("cpu"): flat}
        if device not in self._flat:
            self._flat[device] = self._flat[torch.device("cpu")].to(device)
        return self._flat[device], self._begins


@dataclass(frozen=True, slots=True, eq=False)
class RoomBank:
    """Room responses (rooms, length), aligned (direct sound at `LEAD_SAMPLES`) and of unit energy; their times
    (rooms,).
    """

    responses: Tensor
    rt60_s: Tensor
    _copies: dict[torch.device, Tensor] = field(default_factory=dict, repr=False)

    @classmethod
    def from_responses(
        cls, responses: Sequence[Tensor], rt60_s: Sequence[float | None] | None = None, *, max_s: float = 1.0
    ) -> "RoomBank":
        """Align impulse responses, (time,) each at 16 kHz, cut them at `max_s` with a fade of 10 ms, and normalise
        them.

        Reverberation times (seconds) that are None are estimated.
        """
        known = rt60_s if rt60_s is not None else [None] * len(responses)
        times = [reverberation_time(r) if t is None else t for r, t in zip(responses, known, strict=True)]
        aligned = [_align(response, seconds_to_samples(max_s)) for response in responses]
        return cls(torch.nn.utils.rnn.pad_sequence(aligned, batch_first=True), torch.tensor(times))

    @classmethod
    def from_source(
        cls, source: StrPath, *, max_s: float = 1.0, max_rooms: int = 2000, exclude: Sequence[str] = (), seed: int = 0
    ) -> "RoomBank":
        """Decode a collection of room responses (of one that knows kinds, those of kind "rir").

        Of several channels the first is taken, since a mean of microphones is a room that does not exist. Beyond
        `max_rooms` (at 1 s, 128 MB) a random choice is kept.
        """
        sounds = list_sounds(source, exclude=exclude)
        sounds = [sound for sound in sounds if sound.kind == "rir"] or sounds
        order = torch.randperm(len(sounds), generator=torch.Generator().manual_seed(seed))[:max_rooms]
        sounds = [sounds[i] for i in order.sort().values.tolist()]
        return cls.from_responses([_load_response(s.path) for s in sounds], [s.rt60_s for s in sounds], max_s=max_s)

    @classmethod
    def synthetic(
        cls,
        *,
        num_rooms: int = 256,
        rt60_s: tuple[float, float] = (0.1, 0.8),  # ours: from a furnished small room to a bare medium one
        direct_to_reverberant_db: tuple[float, float] = (-3.0, 12.0),  # ours
        seed: int = 0,
    ) -> "RoomBank":
        """Rooms of exponentially decaying noise, for those who have no recordings of rooms."""
        generator = torch.Generator().manual_seed(seed)
        draws = torch.rand(2, num_rooms, generator=generator)
        times = rt60_s[0] + (rt60_s[1] - rt60_s[0]) * draws[0]
        low, high = direct_to_reverberant_db
        num_samples = LEAD_SAMPLES + seconds_to_samples(rt60_s[1])
        ratios = low + (high - low) * draws[1]
        responses = room_responses(times, ratios, generator, num_samples=num_samples, lead=LEAD_SAMPLES)
        return cls.from_responses(list(responses), times.tolist())

    def __len__(self) -> int:
        return len(self.responses)

    def within(self, max_rt60_s: float | None) -> "RoomBank":
        """The rooms of at most this reverberation time (seconds); None for all. InputError: there is none."""
        if max_rt60_s is None:
            return self
        kept = (self.rt60_s <= max_rt60_s).nonzero()[:, 0]
        if len(kept) == 0:
            driest = float(self.rt60_s.min())
            raise InputError(f"max_rt60_s={max_rt60_s}: the driest of {len(self)} rooms has an RT60 of {driest:.2f} s")
        responses = self.responses[kept]
        length = int(responses.any(dim=0).nonzero()[-1]) + 1
        return RoomBank(responses[:, :length].contiguous(), self.rt60_s[kept])

    def draw(self, num: int, generator: torch.Generator, device: torch.device | str = "cpu") -> Tensor:
        """Draw `num` responses, each room equally likely: (num, length) on `device`, where the bank is copied once."""
        chosen, device = torch.randint(len(self), (num,), generator=generator), torch.device(device)
        if device not in self._copies:
            self._copies[device] = self.responses.to(device)
        return self._copies[device][chosen.to(device)]


def _without_silent_ends(clip: Tensor) -> Tensor:
    """Cut what lies 60 dB below the peak at either end: padding, of which no noise can be made."""
    loud = (clip.abs() > 1e-3 * clip.abs().max()).nonzero()
    return clip[int(loud[0]) : int(loud[-1]) + 1] if len(loud) else clip[:0]


def _repeat(clip: Tensor, num_samples: int) -> Tensor:
    return clip.repeat(-(-num_samples // len(clip)))[:num_samples]


def _load_response(path: Path) -> Tensor:
    """First channel at 16 kHz."""
    with open_audio(path) as file:
        rate = file.samplerate
        num_samples = header_of(file).num_samples
        wave = np.concatenate([block[:, 0] for block in decode_blocks(file, 0, num_samples)])
    if not np.isfinite(wave).all() or not wave.any():
        raise AudioError(f"{path}: a room response that is silent, or holds NaN or Inf; leave it out")
    return torch.from_numpy(resample(wave, rate, SAMPLE_RATE) if rate != SAMPLE_RATE else wave)


def _align(response: Tensor, max_samples: int) -> Tensor:
    """Direct sound (the highest peak) at `LEAD_SAMPLES`, at most `max_samples`, unit energy."""
    peak = int(response.abs().argmax())
    before = response[max(0, peak - LEAD_SAMPLES) : peak]
    aligned = torch.cat([response.new_zeros(LEAD_SAMPLES - len(before)), before, response[peak:]])
    if len(aligned) > max_samples:
        aligned = aligned[:max_samples]
        aligned[-FADE_SAMPLES:] *= torch.linspace(1, 0, FADE_SAMPLES)
    return aligned / aligned.norm()
