"""Embeddings of many files: read, sorted into batches of like length, embedded, and put back in their order."""

import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from dino_speech.audio.io import SAMPLE_RATE, audio_info, load_audio
from dino_speech.data.in_threads import in_order
from dino_speech.data.utterances import Skipped
from dino_speech.errors import InputError
from dino_speech.models.precision import autocast

# What is done to a wave between reading and embedding: (time,) and the utterance's ID -> (time,) of any length. With
# `num_workers` it runs in several threads at once.
Transform = Callable[[Tensor, str], Tensor]


@dataclass(frozen=True)
class Span:
    """A part of a file, named by its path."""

    wav: str
    start: int
    stop: int | None
    duration: float = 0.0  # only sorts batches; here is one

    @property
    def id(self) -> str:
        """The path stands for the utterance."""
        return self.wav


@dataclass(frozen=True, eq=False)
class Embeddings:
    """What `embed_files` gives: `ids` (N,), an ID or the path as given; `embeddings` (N, D) float32; `failures`."""

    ids: list[str]
    embeddings: np.ndarray
    failures: list[Skipped]


@dataclass(frozen=True)
class _Request:
    position: int
    id: str
    path: str
    start: int = 0
    stop: int | None = None
    seconds: float = 0.0  # as the manifest or the header says: only for sorting
    origin: str = ""


class _UnusableError(InputError):
    """Why one item cannot be embedded."""


def embed_items(
    encoder: Any,
    items: Sequence[Any],
    embed: Callable[[Tensor, Tensor], Tensor],
    dim: int,
    *,
    batch_s: float | None = None,
    max_s: float | None = None,
    num_workers: int = 0,
    progress: bool = False,
    on_error: Literal["raise", "skip"] = "raise",
    transform: Transform | None = None,
) -> Embeddings:
    """Embed files or utterances by `embed`: waves (B, time) and lengths (B,) on the encoder's device -> (B, dim).

    `encoder`, a `SpeechEncoder`, says where that is, and how short a wave may be; the options are of its `embed_files`.
    """
    batch_s = default_batch_s(encoder.device) if batch_s is None else batch_s
    if on_error not in ("raise", "skip"):
        raise InputError(f"on_error={on_error!r}: expected 'raise' or 'skip'")
    max_s = encoder.max_s if max_s is None else max_s
    for name, seconds in {"batch_s": batch_s, "max_s": max_s}.items():
        if not seconds > 0:
            raise InputError(f"{name}={seconds}: expected a positive number of seconds")
    if isinstance(items, (str, bytes)):
        raise InputError(f"embed_files was given {items!r}; expected a list of paths or utterances")
    outcome = _Outcome(skip=on_error == "skip")
    requests = [request for request in map(_request, range(len(items)), items) if outcome.accepts(*request)]
    read = partial(_read, encoder.min_samples, encoder.config.sample_rate, max_s, transform)
    _embed_all(encoder, requests, read, embed, outcome, batch_s=batch_s, num_workers=num_workers, progress=progress)
    return outcome.result(dim)


def embed_waves(
    encoder: Any,
    waves: Sequence[Tensor],
    embed: Callable[[Tensor, Tensor], Tensor],
    dim: int,
    *,
    batch_s: float | None = None,
    max_s: float | None = None,
) -> np.ndarray:
    """(N, dim) of waves (time,) at the encoder's rate; the rest is as in `embed_items`."""
    batch_s = default_batch_s(encoder.device) if batch_s is None else batch_s
    max_s, rate = encoder.max_s if max_s is None else max_s, encoder.config.sample_rate
    for number, wave in enumerate(waves, start=1):
        if len(wave) > max_s * rate:
            seconds = f"wave {number}: {len(wave) / rate:.0f} s in one piece"
            raise InputError(f"{seconds}; expected at most {max_s:g} s: cut it into parts, or allow more by max_s")
    requests = [(_Request(i, str(i), f"wave {i + 1}", seconds=len(wave) / rate), None) for i, wave in enumerate(waves)]
    outcome = _Outcome(skip=False)
    _embed_all(
        encoder,
        requests,
        lambda request: _fit(encoder.min_samples, rate, request.path, waves[request.position]),
        embed,
        outcome,
        batch_s=batch_s,
    )
    return outcome.result(dim).embeddings


def _embed_all(
    encoder: Any,
    requests: Sequence[tuple["_Request", Any]],
    read: Callable[["_Request"], "Tensor | _UnusableError"],
    embed: Callable[[Tensor, Tensor], Tensor],
    outcome: "_Outcome",
    *,
    batch_s: float,
    num_workers: int = 0,
    progress: bool = False,
) -> None:
    """Read, batch and embed what is asked for; what comes of it is added to `outcome`."""
    from tqdm import tqdm

    batches = list(_groups(requests, lambda request: request[0].seconds, batch_s))
    with tqdm(total=len(requests), desc="embed", unit="file", file=sys.stderr, disable=not progress) as bar:
        flat = [request for batch in batches for request, _ in batch]
        waves = in_order(read, flat, num_workers) if num_workers > 0 else map(read, flat)
        for batch in batches:
            heard = [pair for pair in ((request, next(waves)) for request, _ in batch) if outcome.accepts(*pair)]
            # Grouped again by what was really read: a manifest may be wrong about durations.
            for group in _groups(heard, lambda pair: len(pair[1]) / encoder.config.sample_rate, batch_s):
                padded = torch.nn.utils.rnn.pad_sequence([wave for _, wave in group], batch_first=True)
                lengths = torch.tensor([len(wave) for _, wave in group], device=encoder.device)
                vectors = embed(padded.to(encoder.device), lengths).float().cpu().numpy()
                for (request, _), vector in zip(group, vectors, strict=True):
                    outcome.add(request, vector)
            bar.update(len(batch))


def in_precision(encoder: Any, precision: str) -> Callable[[Tensor, Tensor], Tensor]:
    """The encoder itself, its network in a precision: what embeds, for the two above."""

    def embed(waves: Tensor, lengths: Tensor) -> Tensor:
        with autocast(precision, encoder.device):
            return encoder(waves, lengths)

    return embed


def default_batch_s(device: torch.device) -> float:
    """Seconds of sound in a batch where nobody asked for a number.

    Ours: on a CPU, ECAPA embeds 1.7 times faster in batches of 12 s than of 120 s, as the outputs stay in the cache.
    """
    return 12.0 if device.type == "cpu" else 120.0


class _Outcome:
    """Collects vectors and failures; the order asked for comes back in `result`."""

    def __init__(self, *, skip: bool) -> None:
        self.skip = skip
        self.vectors: dict[int, tuple[str, np.ndarray]] = {}
        self.failures: dict[int, Skipped] = {}

    def accepts(self, request: _Request, answer: Any) -> bool:
        """False for a reason why there is nothing, which is noted (or raised)."""
        if not isinstance(answer, _UnusableError):
            return True
        if not self.skip:
            raise InputError(f"{request.origin}: {answer}" if request.origin else str(answer))
        self.failures[request.position] = Skipped(request.id, str(answer))
        return False

    def add(self, request: _Request, vector: np.ndarray) -> None:
        """Keep a vector, if it is one."""
        bad = _UnusableError(f"{request.path}: its embedding is NaN or Inf; are the weights sound?")
        if self.accepts(request, vector if np.isfinite(vector).all() else bad):
            self.vectors[request.position] = (request.id, vector)

    def result(self, dim: int) -> Embeddings:
        """All of them, in the order asked for."""
        found = [self.vectors[position] for position in sorted(self.vectors)]
        rows = np.array([vector for _, vector in found], dtype=np.float32).reshape(-1, dim)
        return Embeddings([name for name, _ in found], rows, [self.failures[p] for p in sorted(self.failures)])


def _request(position: int, item: Any) -> tuple[_Request, _UnusableError | None]:
    """What to read for a path or an utterance, and why a file cannot even be opened."""
    if hasattr(item, "wav"):
        start, stop = item.start or 0, item.stop
        seconds = item.duration if stop is None else (stop - start) / SAMPLE_RATE
        return _Request(position, item.id, str(item.wav), start, stop, seconds, getattr(item, "origin", "")), None
    path = str(item)
    try:
        return _Request(position, path, path, seconds=audio_info(path).duration_s), None
    except InputError as error:
        return _Request(position, path, path), _UnusableError(str(error))


def _groups(items: Iterable[Any], seconds: Callable[[Any], float], batch_s: float) -> Iterator[list[Any]]:
    """Longest first, so that memory runs out at the beginning or never; each group's padded length is in `batch_s`."""
    group: list[Any] = []
    for item in sorted(items, key=seconds, reverse=True):
        if group and (len(group) + 1) * seconds(group[0]) > batch_s:
            yield group
            group = []
        group.append(item)
    if group:
        yield group


def _read(
    min_samples: int, rate: int, max_s: float, transform: Transform | None, request: _Request
) -> Tensor | _UnusableError:
    """The wave, or why there is none."""
    try:
        wave = load_audio(request.path, start=request.start, stop=request.stop, sample_rate=rate, max_s=max_s)
        wave = wave if transform is None else transform(wave, request.id)
    except InputError as error:
        return _UnusableError(str(error))
    return _fit(min_samples, rate, request.path, wave)


def _fit(min_samples: int, rate: int, place: str, wave: Tensor) -> Tensor | _UnusableError:
    """The wave, if it can be embedded."""
    if len(wave) < min_samples:
        least = f"this encoder needs at least {min_samples / rate:.3g} s"
        return _UnusableError(f"{place}: {len(wave) / rate:.3g} s long; {least}")
    return wave if wave.any() else _UnusableError(f"{place}: silent (all samples are zero)")
