"""Embeddings of many files: read, sorted into batches of like length, embedded, and put back in their order."""

import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from dino_speech.audio.io import SAMPLE_RATE, audio_info, load_audio
from dino_speech.data.utterances import Skipped
from dino_speech.errors import InputError

BATCHES_AHEAD = 2  # read while the device works; more would only hold memory

# What is done to a wave between reading and embedding: (time,) and the utterance's ID -> (time,) of any length. With
# `num_workers` it runs in several threads at once.
Transform = Callable[[Tensor, str], Tensor]


@dataclass(frozen=True)
class Span:
    """A part of a file, as `embed_files` takes it."""

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
    """What `embed_files` gives.

    Attributes:
        ids: (N,) names of those embedded, in the order asked for: an utterance's ID, or the path as it was given.
        embeddings: (N, D) float32.
        failures: what was left out, and why.
    """

    ids: list[str]
    embeddings: np.ndarray
    failures: list[Skipped]


@dataclass(frozen=True)
class _Failure:
    position: int
    id: str
    origin: str
    reason: str


@dataclass(frozen=True)
class _Request:
    position: int
    id: str
    path: str
    start: int
    stop: int | None
    seconds: float  # as the manifest or the header says: only for sorting
    origin: str

    def failure(self, reason: str) -> _Failure:
        return _Failure(self.position, self.id, self.origin, reason)


def embed_items(
    items: Sequence[Any],
    embed: Callable[[Tensor, Tensor], Tensor],
    *,
    min_samples: int,
    sample_rate: int,
    embedding_dim: int,
    device: torch.device,
    batch_s: float | None = None,
    num_workers: int = 0,
    progress: bool = False,
    on_error: Literal["raise", "skip"] = "raise",
    transform: Transform | None = None,
) -> Embeddings:
    """Embed files or utterances; `SpeechEncoder.embed_files` says what the arguments mean."""
    batch_s = default_batch_s(device) if batch_s is None else batch_s
    if on_error not in ("raise", "skip"):
        raise InputError(f"on_error={on_error!r}: expected 'raise' or 'skip'")
    if not batch_s > 0:
        raise InputError(f"batch_s={batch_s}: expected a positive number of seconds")
    if isinstance(items, (str, bytes)):
        raise InputError(f"embed_files was given {items!r}; expected a list of paths or utterances")
    from tqdm import tqdm

    outcome = _Outcome(on_error)
    requests = [request for request in map(_request, range(len(items)), items) if outcome.accepts(request)]
    batches = list(_groups(requests, lambda request: request.seconds, batch_s))
    with tqdm(total=len(requests), desc="embed", unit="file", file=sys.stderr, disable=not progress) as bar:
        for batch, waves in _read_ahead(
            batches, lambda request: _read(request, min_samples, sample_rate, transform), num_workers
        ):
            read = [(request, wave) for request, wave in zip(batch, waves, strict=True) if outcome.accepts(wave)]
            # Grouped again by what was really read: a manifest may be wrong about durations.
            for group in _groups(read, lambda pair: len(pair[1]) / sample_rate, batch_s):
                vectors = embed(*_pad([wave for _, wave in group])).float().cpu().numpy()
                for (request, _), vector in zip(group, vectors, strict=True):
                    outcome.add(request, vector)
            bar.update(len(batch))
    return outcome.result(embedding_dim)


def default_batch_s(device: torch.device) -> float:
    """Seconds of sound in a batch where nobody asked for a number.

    Ours: on a CPU, ECAPA embeds 1.7 times faster in batches of 12 s than of 120 s, as the layers' outputs stay in the
    cache.
    """
    return 12.0 if device.type == "cpu" else 120.0


class _Outcome:
    """Collects vectors and failures; the order asked for comes back in `result`."""

    def __init__(self, on_error: str) -> None:
        self.on_error = on_error
        self.vectors: dict[int, tuple[str, np.ndarray]] = {}
        self.failures: dict[int, Skipped] = {}

    def accepts(self, answer: _Request | Tensor | _Failure) -> bool:
        """False for a failure, which is noted (or raised)."""
        if not isinstance(answer, _Failure):
            return True
        if self.on_error == "raise":
            raise InputError(f"{answer.origin}: {answer.reason}" if answer.origin else answer.reason)
        self.failures[answer.position] = Skipped(answer.id, answer.reason)
        return False

    def add(self, request: _Request, vector: np.ndarray) -> None:
        if np.isfinite(vector).all():
            self.vectors[request.position] = (request.id, vector)
        else:
            self.accepts(request.failure(f"{request.path}: its embedding is NaN or Inf; are the weights sound?"))

    def result(self, embedding_dim: int) -> Embeddings:
        ids, rows = [], np.zeros((len(self.vectors), embedding_dim), np.float32)
        for row, (_, (name, vector)) in zip(rows, sorted(self.vectors.items()), strict=True):
            ids.append(name)
            row[:] = vector
        return Embeddings(ids, rows, [failure for _, failure in sorted(self.failures.items())])


def _request(position: int, item: Any) -> _Request | _Failure:
    """What to read for a path or an utterance; a failure where a file cannot even be opened."""
    if hasattr(item, "wav"):
        start, stop = item.start or 0, item.stop
        seconds = item.duration if stop is None else (stop - start) / SAMPLE_RATE
        return _Request(position, item.id, str(item.wav), start, stop, seconds, getattr(item, "origin", ""))
    path = str(item)
    try:
        return _Request(position, path, path, 0, None, audio_info(path).duration_s, "")
    except InputError as error:
        return _Failure(position, path, "", str(error))


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


def _read(request: _Request, min_samples: int, sample_rate: int, transform: Transform | None) -> Tensor | _Failure:
    """The wave, or why there is none."""
    try:
        wave = load_audio(request.path, start=request.start, stop=request.stop, sample_rate=sample_rate)
        wave = wave if transform is None else transform(wave, request.id)
    except InputError as error:
        return request.failure(str(error))
    if len(wave) < min_samples:
        least = f"this encoder needs at least {min_samples / sample_rate:.3g} s"
        return request.failure(f"{request.path}: {len(wave) / sample_rate:.3g} s long; {least}")
    if not wave.any():
        return request.failure(f"{request.path}: silent (all samples are zero)")
    return wave


def _read_ahead(
    batches: list[list[_Request]], read: Callable[[_Request], Tensor | _Failure], num_workers: int
) -> Iterator[tuple[list[_Request], list[Tensor | _Failure]]]:
    """Batches with their waves; with workers (threads: the decoders release the lock) some batches ahead."""
    if num_workers < 1:
        yield from ((batch, [read(request) for request in batch]) for batch in batches)
        return
    with ThreadPoolExecutor(num_workers) as pool:
        try:
            waiting: deque[tuple[list[_Request], list[Any]]] = deque()
            for batch in batches:
                waiting.append((batch, [pool.submit(read, request) for request in batch]))
                if len(waiting) > BATCHES_AHEAD:
                    ready, futures = waiting.popleft()
                    yield ready, [future.result() for future in futures]
            for ready, futures in waiting:
                yield ready, [future.result() for future in futures]
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def _pad(waves: list[Tensor]) -> tuple[Tensor, Tensor]:
    """Waves -> (B, time) and (B,) lengths."""
    padded = torch.nn.utils.rnn.pad_sequence(waves, batch_first=True)
    return padded, torch.tensor([len(wave) for wave in waves])
