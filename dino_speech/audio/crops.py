"""MultiCrop: where the long (`L`) and the short (`S`) segments of an utterance lie, and cutting them.

Planning needs only the utterance's length, so that a file is read between the first and the last sample that a plan
uses, and nowhere else. Long and short segments together are the views of an utterance.
"""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from dino_speech.argument_checks import require
from dino_speech.audio.io import SAMPLE_RATE, seconds_to_samples
from dino_speech.errors import InputError


@dataclass(frozen=True, slots=True)
class CropPlan:
    """Samples `start`..`stop` (16 kHz) of an utterance are to be read, and where the views lie in them.

    Each view is (offset from `start`, length) in samples, the long views first. One that runs over the end of what is
    read goes on at its beginning.
    """

    start: int
    stop: int
    views: tuple[tuple[int, int], ...]


class MultiCrop:
    """Long and short segments of an utterance, each at an independent, uniformly drawn position.

    An utterance shorter than a segment is repeated end to end, and the segment begins at a random phase of it. (The
    paper drops utterances under 4 s; on short commands and digits that would leave little to learn from.)

    Args:
        num_long: long segments, seen by teacher and student; at least 1.
        long_s: their length in seconds.
        num_short: short segments, seen by the student only; with `num_long` at least 2 together.
        short_s: their length in seconds; at most `long_s`.
        disjoint: True: take long and short segments from two parts of the utterance that share no sample. The border is
            drawn uniformly, which part comes first too. "views": no two segments share a sample, so that they do not
            share their words; order and gaps are drawn uniformly. An utterance too short for it is treated as if
            `disjoint` were off; `min_s` keeps such ones out.
        excerpt_s: draw all segments from one random excerpt of this many seconds, so that of a long recording little
            has to be read; None: from the whole utterance.
        min_s: utterances of fewer seconds are refused (pretraining leaves them out, a dataset skips and lists them).

    Raises:
        InputError: a number is out of its range.

    Example:
        >>> crops = MultiCrop(num_long=2, long_s=4.0, num_short=4, short_s=2.0)
        >>> long, short = crops(torch.randn(7 * 16_000), torch.Generator().manual_seed(0))
        >>> long.shape, short.shape
        (torch.Size([2, 64000]), torch.Size([4, 32000]))

    Source: 2 x 4 s and 4 x 2 s at uniform positions: Cho et al., arXiv 2208.05445. `disjoint` and `excerpt_s`: the same
    laboratory's later recipe (hyperion, egs/voxceleb/ssl.v1), where the parts are of fixed proportion. "views": ours; a
        network that hears the same words in all views of an utterance need not hear its speaker.
    """

    min_views = 2

    def __init__(
        self,
        *,
        num_long: int = 2,
        long_s: float = 4.0,
        num_short: int = 4,
        short_s: float = 2.0,
        disjoint: bool | Literal["views"] = False,
        excerpt_s: float | None = None,
        min_s: float = 0.4,
    ) -> None:
        if num_long < 1 or num_short < 0 or num_long + num_short < self.min_views:
            raise InputError(
                f"num_long={num_long}, num_short={num_short}: expected at least one long view and two views in all"
            )
        if not 0 < short_s <= long_s:
            raise InputError(f"long_s={long_s}, short_s={short_s}: expected 0 < short_s <= long_s")
        require("disjoint", disjoint, "true, false or 'views'", lambda given: given in (True, False, "views"))
        needed_s = {"views": num_long * long_s + num_short * short_s, True: long_s + short_s, False: long_s}[disjoint]
        if excerpt_s is not None and excerpt_s < needed_s:
            raise InputError(f"excerpt_s={excerpt_s}: expected at least {needed_s:g} s, which the segments need")
        require("min_s", min_s, "a positive number of seconds", lambda seconds: seconds > 0)
        self.num_long, self.num_short, self.disjoint = num_long, num_short, disjoint
        self.long_s, self.short_s, self.excerpt_s, self.min_s = long_s, short_s, excerpt_s, min_s
        self.long_samples, self.short_samples = seconds_to_samples(long_s), seconds_to_samples(short_s)
        self.min_samples = max(1, seconds_to_samples(min_s))

    @property
    def num_views(self) -> int:
        """Long and short segments together."""
        return self.num_long + self.num_short

    def plan(self, num_samples: int, generator: torch.Generator) -> CropPlan:
        """Draw the positions of all views in an utterance of `num_samples` at 16 kHz.

        Raises:
            InputError: the utterance is shorter than `min_s`.
        """
        if num_samples < self.min_samples:
            raise InputError(f"{num_samples / SAMPLE_RATE:.3f} s of sound: expected at least {self.min_s:g} s")
        excerpt = self._excerpt(num_samples, generator)
        views = self._apart(excerpt, generator) if self.disjoint == "views" else None
        if views is None:
            long_part, short_part = self._parts(excerpt, generator)
            segments = [(long_part, self.long_samples)] * self.num_long
            segments += [(short_part, self.short_samples)] * self.num_short
            views = [(_position(part, length, generator), length) for part, length in segments]
        start, stop = min(first for first, _ in views), max(first + length for first, length in views)
        if stop > excerpt[1]:  # some view wraps around, so it needs all there is
            start, stop = excerpt
        return CropPlan(start, stop, tuple((first - start, length) for first, length in views))

    def _excerpt(self, num_samples: int, generator: torch.Generator) -> tuple[int, int]:
        """Start and stop of what the views are drawn from."""
        if self.excerpt_s is None or num_samples <= seconds_to_samples(self.excerpt_s):
            return 0, num_samples
        length = seconds_to_samples(self.excerpt_s)
        start = _uniform(num_samples - length, generator)
        return start, start + length

    def _parts(self, excerpt: tuple[int, int], generator: torch.Generator) -> tuple[tuple[int, int], tuple[int, int]]:
        """Start and stop of the part for the long views, and of that for the short ones."""
        start, stop = excerpt
        spare = stop - start - self.long_samples - self.short_samples
        if self.disjoint is not True or spare < 0 or self.num_short == 0:
            return excerpt, excerpt
        for_long = self.long_samples + _uniform(spare, generator)
        if _uniform(1, generator) == 0:
            return (start, start + for_long), (start + for_long, stop)
        return (stop - for_long, stop), (start, stop - for_long)

    def _apart(self, excerpt: tuple[int, int], generator: torch.Generator) -> list[tuple[int, int]] | None:
        """Position and length of views that share no sample; None where the excerpt is too short for them."""
        lengths = [self.long_samples] * self.num_long + [self.short_samples] * self.num_short
        spare = excerpt[1] - excerpt[0] - sum(lengths)
        if spare < 0:
            return None
        # Uniform over all gaps: what is skipped before each view in turn, in ascending order.
        skipped = torch.randint(spare + 1, (len(lengths),), generator=generator).sort().values.tolist()
        positions, heard = [0] * len(lengths), excerpt[0]
        for turn, view in enumerate(torch.randperm(len(lengths), generator=generator).tolist()):
            positions[view] = heard + skipped[turn]
            heard += lengths[view]
        return list(zip(positions, lengths, strict=True))

    def cut(self, span: Tensor, plan: CropPlan) -> tuple[Tensor, Tensor]:
        """Cut the views of a plan out of the samples that it asked for: (L, long_samples), (S, short_samples), copies.

        Args:
            span: (time,) the utterance from `plan.start` to `plan.stop`. A file may turn out some samples shorter than
                its manifest says: a view that runs over the end wraps around, as in a short utterance.
            plan: what `plan` gave.

        Raises:
            InputError: the span is empty.
        """
        if span.ndim != 1 or len(span) == 0:
            raise InputError(f"span of shape {tuple(span.shape)}: expected (time,) with at least one sample")
        views = [_cut(span, first, length) for first, length in plan.views]
        long = torch.stack(views[: self.num_long])
        short = torch.stack(views[self.num_long :]) if self.num_short else span.new_empty(0, self.short_samples)
        return long, short

    def __call__(self, wave: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Plan and cut an utterance that is wholly in memory, (time,) at 16 kHz."""
        plan = self.plan(len(wave), generator)
        return self.cut(wave[plan.start : plan.stop], plan)


def _uniform(largest: int, generator: torch.Generator) -> int:
    """A whole number from 0 to `largest`, both included."""
    return int(torch.randint(largest + 1, (), generator=generator))


def _position(part: tuple[int, int], length: int, generator: torch.Generator) -> int:
    start, stop = part
    if stop - start >= length:
        return start + _uniform(stop - start - length, generator)
    return start + _uniform(stop - start - 1, generator)  # shorter than the segment: any phase of the repetition


def _cut(span: Tensor, first: int, length: int) -> Tensor:
    if first + length <= len(span):
        return span[first : first + length]
    return span[torch.arange(first, first + length) % len(span)]
