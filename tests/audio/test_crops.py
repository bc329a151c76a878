"""MultiCrop: uniform positions, spans that are all one reads, short files that wrap, parts that share no sample."""

import itertools
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import scipy.stats
import torch

from dino_speech.audio.crops import CropPlan, MultiCrop
from dino_speech.audio.io import load_audio
from dino_speech.audio.random_chunk import RandomChunk
from dino_speech.errors import InputError

S = 16_000


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def intervals(plan: CropPlan) -> list[tuple[int, int]]:
    return [(plan.start + first, plan.start + first + length) for first, length in plan.views]


def test_shapes_and_lengths() -> None:
    crops = MultiCrop(num_long=2, long_s=1.5, num_short=3, short_s=0.5)
    long, short = crops(torch.arange(5.0 * S), generator())
    assert (long.shape, short.shape) == ((2, 24_000), (3, 8_000))
    assert (crops.num_views, crops.long_samples, crops.short_samples) == (5, 24_000, 8_000)
    for view in [*long, *short]:  # a ramp: each view is a stretch of consecutive samples
        assert torch.equal(view, torch.arange(view[0].item(), view[0].item() + len(view)))


def test_defaults_are_the_papers_and_an_excerpt_may_be_just_enough() -> None:
    crops = MultiCrop()
    assert (crops.num_long, crops.long_s, crops.num_short, crops.short_s) == (2, 4.0, 4, 2.0)  # arXiv 2208.05445
    assert (crops.min_s, crops.disjoint, crops.excerpt_s) == (0.4, False, None)
    for disjoint, excerpt_s in ((False, 4.0), (True, 6.0)):
        plan = MultiCrop(disjoint=disjoint, excerpt_s=excerpt_s).plan(60 * S, generator())
        assert plan.stop - plan.start <= excerpt_s * S


def test_no_short_views() -> None:
    long, short = MultiCrop(num_long=2, long_s=1.0, num_short=0, short_s=0.5)(torch.randn(2 * S), generator())
    assert (long.shape, short.shape) == ((2, S), (0, S // 2))


def test_same_generator_same_views() -> None:
    wave = torch.randn(6 * S)
    crops = MultiCrop()
    first, again, other = (crops(wave, generator(seed)) for seed in (3, 3, 4))
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert not any(torch.equal(a, b) for a, b in zip(first, other, strict=True))


def test_positions_are_uniform_and_independent() -> None:
    crops = MultiCrop(num_long=2, long_s=1.0, num_short=2, short_s=0.5)
    g = generator()
    starts = np.array([[start for start, _ in intervals(crops.plan(3 * S, g))] for _ in range(1500)])
    for view, room in enumerate((2 * S, 2 * S, 2.5 * S, 2.5 * S)):
        assert scipy.stats.kstest(starts[:, view] / room, "uniform").pvalue > 1e-3
    correlation = np.corrcoef(starts.T)
    assert np.abs(correlation[~np.eye(4, dtype=bool)]).max() < 0.1


def test_both_ends_are_reached() -> None:
    crops = MultiCrop(num_long=2, long_s=1.0, num_short=0, short_s=1.0)
    g = generator()
    starts = {start for _ in range(40) for start, _ in intervals(crops.plan(S + 2, g))}
    assert starts == {0, 1, 2}


@pytest.mark.parametrize("duration_s", [0.5, 1.0, 1.9, 3.7, 30.0])
@pytest.mark.parametrize("options", [{}, {"disjoint": True}, {"excerpt_s": 4.0}, {"disjoint": True, "excerpt_s": 4.0}])
def test_cutting_a_partial_read_equals_cutting_the_file(
    write_wav: Callable[..., Path], tone: Callable[..., np.ndarray], duration_s: float, options: dict
) -> None:
    path = write_wav("a.wav", tone(duration_s))
    wave = load_audio(path)
    crops = MultiCrop(num_long=2, long_s=1.5, num_short=3, short_s=0.75, **options)
    for seed in range(5):
        plan = crops.plan(len(wave), generator(seed))
        assert 0 <= plan.start < plan.stop <= len(wave)
        span = load_audio(path, start=plan.start, stop=plan.stop)
        from_span, from_file = crops.cut(span, plan), crops(wave, generator(seed))
        assert all(torch.equal(a, b) for a, b in zip(from_span, from_file, strict=True))


def test_only_what_the_views_use_is_read() -> None:
    crops = MultiCrop(num_long=1, long_s=1.0, num_short=1, short_s=0.5)
    plan = crops.plan(60 * S, generator())
    used = intervals(plan)
    assert (plan.start, plan.stop) == (min(a for a, _ in used), max(b for _, b in used))


def test_a_short_file_is_repeated_from_a_random_phase() -> None:
    wave = torch.randn(round(0.7 * S))
    crops = MultiCrop(num_long=2, long_s=2.0, num_short=4, short_s=1.0)
    plan = crops.plan(len(wave), generator())
    assert (plan.start, plan.stop) == (0, len(wave))
    long, short = crops.cut(wave, plan)
    repeated = wave.repeat(5)
    for view, (first, length) in zip([*long, *short], plan.views, strict=True):
        assert torch.equal(view, repeated[first : first + length])
    assert len({first for first, _ in plan.views}) == 6


def test_a_file_between_short_and_long_wraps_only_the_long_views() -> None:
    crops = MultiCrop(num_long=1, long_s=2.0, num_short=3, short_s=1.0)
    plan = crops.plan(round(1.5 * S), generator(1))
    assert [first + length <= 1.5 * S for first, length in plan.views] == [False, True, True, True]


def test_a_span_some_samples_short_of_its_plan_still_gives_full_views() -> None:
    crops = MultiCrop(num_long=2, long_s=1.0, num_short=2, short_s=0.5)
    wave = torch.randn(2 * S)
    plan = crops.plan(len(wave), generator())
    long, short = crops.cut(wave[plan.start : plan.stop - 7], plan)
    assert (long.shape, short.shape) == ((2, S), (2, S // 2))


@pytest.mark.parametrize("excerpt_s", [None, 5.0])
def test_disjoint_parts_share_no_sample(excerpt_s: float | None) -> None:
    crops = MultiCrop(num_long=2, long_s=2.0, num_short=4, short_s=1.0, disjoint=True, excerpt_s=excerpt_s)
    g = generator()
    sides = set()
    for num_samples in (3 * S, 3 * S + 1, 4 * S, 9 * S):
        for _ in range(50):
            spans = intervals(crops.plan(num_samples, g))
            long, short = spans[:2], spans[2:]
            assert min(a for a, _ in spans) >= 0
            assert max(b for _, b in spans) <= num_samples
            long_first = max(b for _, b in long) <= min(a for a, _ in short)
            short_first = max(b for _, b in short) <= min(a for a, _ in long)
            assert long_first or short_first
            sides.add(long_first)
    assert sides == {True, False}


@pytest.mark.parametrize(("disjoint", "needed_s"), [(True, 3), ("views", 8)])
def test_a_file_too_short_for_disjoint_parts_is_cropped_as_without(disjoint, needed_s) -> None:
    options = {"num_long": 2, "long_s": 2.0, "num_short": 4, "short_s": 1.0}
    plans = [MultiCrop(**options, disjoint=d).plan(needed_s * S - 1, generator()) for d in (disjoint, False)]
    assert plans[0] == plans[1]


@pytest.mark.parametrize("excerpt_s", [None, 4.5])
def test_disjoint_views_share_no_sample_and_lie_anywhere_in_any_order(excerpt_s: float | None) -> None:
    crops = MultiCrop(num_long=2, long_s=1.5, num_short=2, short_s=0.5, disjoint="views", excerpt_s=excerpt_s)
    g = generator()
    orders, first_views = set(), []
    for num_samples in [4 * S, 5 * S, *[12 * S] * 300]:
        spans = intervals(crops.plan(num_samples, g))
        order = sorted(range(4), key=lambda view: spans[view])
        spans = [spans[view] for view in order]
        assert all(stop <= start for (_, stop), (start, _) in itertools.pairwise(spans))
        assert spans[0][0] >= 0
        assert spans[-1][1] <= num_samples
        assert excerpt_s is None or spans[-1][1] - spans[0][0] <= excerpt_s * S
        orders.add(tuple(order))
        first_views.append(spans[0][0])
    assert len(orders) == 24
    assert np.ptp(first_views) > (5 if excerpt_s is None else 7) * S


def test_an_excerpt_holds_all_views() -> None:
    crops = MultiCrop(num_long=2, long_s=1.0, num_short=4, short_s=0.5, excerpt_s=2.0)
    g = generator()
    plans = [crops.plan(100 * S, g) for _ in range(200)]
    assert max(plan.stop - plan.start for plan in plans) <= 2 * S
    assert np.ptp([plan.start for plan in plans]) > 80 * S


def test_too_short_a_file_is_refused() -> None:
    with pytest.raises(InputError, match=r"0\.300 s of sound: expected at least 0\.4 s"):
        MultiCrop().plan(round(0.3 * S), generator())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_long": 0}, "num_long=0"),
        ({"num_long": 1, "num_short": 0}, "two views"),
        ({"long_s": 1.0, "short_s": 2.0}, "short_s <= long_s"),
        ({"short_s": 0.0}, "0 < short_s"),
        ({"excerpt_s": 3.0}, r"excerpt_s=3\.0: expected at least 4"),
        ({"excerpt_s": 5.0, "disjoint": True}, "at least 6"),
        ({"excerpt_s": 15.0, "disjoint": "views"}, "at least 16"),
        ({"disjoint": "crops"}, "disjoint = 'crops': expected true, false or 'views'"),
        ({"min_s": 0.0}, "min_s"),
    ],
)
def test_impossible_settings_are_refused(options: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        MultiCrop(**options)


def test_a_chunk_is_one_view_and_as_short_an_utterance_as_said_will_do() -> None:
    chunk = RandomChunk(0.5)
    assert (chunk.num_views, chunk.min_s, chunk(torch.ones(S), generator())[0].shape) == (1, 0.4, (1, 8_000))
    assert chunk.plan(6_400, generator()).stop == 6_400
    with pytest.raises(InputError, match=r"0\.400 s of sound: expected at least 0\.4 s"):
        chunk.plan(6_399, generator())
    with pytest.raises(InputError, match="chunk_s"):
        RandomChunk(0.0)
    assert MultiCrop(min_s=1e-6).min_samples == 1


def test_every_position_and_phase_and_no_more_is_read() -> None:
    fits = [RandomChunk(0.5).plan(8_001, generator(seed)) for seed in range(30)]
    assert {(plan.start, plan.stop) for plan in fits} == {(0, 8_000), (1, 8_001)}
    wraps = [RandomChunk(0.5, min_s=1e-4).plan(2, generator(seed)) for seed in range(30)]
    assert {plan.views[0][0] for plan in wraps} == {0, 1}


def test_either_part_comes_first_as_often() -> None:
    crops = MultiCrop(num_long=1, long_s=0.2, num_short=1, short_s=0.1, disjoint=True)
    plans = [intervals(crops.plan(S, generator(seed))) for seed in range(300)]
    assert all(long[1] <= short[0] or short[1] <= long[0] for long, short in plans)
    assert 0.43 < np.mean([long[0] < short[0] for long, short in plans]) < 0.57


def test_where_nothing_is_to_be_drawn_nothing_is() -> None:
    """Options that do not matter to an utterance leave its draws alone."""
    plain = MultiCrop().plan(4 * S, generator())
    assert MultiCrop(excerpt_s=4.0).plan(4 * S, generator()) == plain
    long = {"num_long": 2, "long_s": 0.5, "num_short": 0, "short_s": 0.5}
    assert MultiCrop(**long, disjoint=True).plan(S, generator()) == MultiCrop(**long).plan(S, generator())


@pytest.mark.parametrize("shape", [(2, 5), (0,), ()])
def test_a_span_of_no_sound_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(InputError, match="with at least one sample"):
        MultiCrop().cut(torch.ones(shape), CropPlan(0, 1, ((0, 1),)))
