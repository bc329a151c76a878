"""Each condition does what its name says, measured on the wave; all are repeatable and leave their input alone."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from dino_speech.audio.banks import NoiseBank, RoomBank
from dino_speech.audio.effects import power, reverberation_time
from dino_speech.audio.io import load_audio
from dino_speech.errors import InputError
from dino_speech.evaluation.stress.conditions import Condition, choose_conditions, standard_conditions

RATE = 16_000
BY_NAME = {condition.name: condition for condition in standard_conditions()}


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def speech_like(duration_s: float = 2.0, seed: int = 0) -> Tensor:
    """Noise that grows and fades four times a second, below full scale."""
    num = round(duration_s * RATE)
    envelope = 0.05 * (1.1 + torch.sin(2 * torch.pi * 4 * torch.arange(num) / RATE))
    return envelope * torch.randn(num, generator=generator(seed))


def sine(hertz: float, duration_s: float = 1.0) -> Tensor:
    return torch.sin(2 * torch.pi * hertz * torch.arange(round(duration_s * RATE)) / RATE)


def decibels(ratio: Tensor | float) -> float:
    return 10 * float(torch.log10(torch.as_tensor(ratio)))


def of_kind(*kinds: str) -> list[Condition]:
    return choose_conditions(BY_NAME.values(), kinds)


@pytest.mark.parametrize("condition", BY_NAME.values(), ids=lambda condition: condition.name)
def test_same_generator_same_wave_and_the_input_stays(condition: Condition) -> None:
    wave = speech_like()
    before = wave.clone()
    first, again = condition(wave, generator(3)), condition(wave, generator(3))
    assert torch.equal(wave, before)
    assert torch.equal(first, again)
    assert first.dtype == torch.float32
    assert torch.isfinite(first).all()
    assert first.shape != wave.shape or not torch.equal(first, wave)


def test_names_are_unique_and_none_is_the_identity_but_the_empty_one() -> None:
    assert len(BY_NAME) == len(standard_conditions()) > 30
    wave = speech_like()
    assert torch.equal(Condition("clean", "clean")(wave, generator()), wave)


@pytest.mark.parametrize("condition", of_kind("white_noise", "pink_noise", "brown_noise", "tone"), ids=lambda c: c.name)
def test_what_is_added_has_the_stated_snr(condition: Condition) -> None:
    for seed in range(3):
        wave = speech_like(0.7 + seed, seed)
        added = condition(wave, generator(seed)) - wave
        assert decibels(power(wave) / power(added)) == pytest.approx(condition.parameters["snr_db"], abs=0.1)


def test_noise_has_its_colour_and_the_tone_its_band() -> None:
    wave = speech_like(8.0)

    def slope_db_per_octave(name: str) -> float:
        spectrum = torch.fft.rfft(BY_NAME[name](wave, generator()) - wave).abs().square()
        hertz = torch.arange(len(spectrum)) / 8.0
        bands = [spectrum[(hertz >= low) & (hertz < 2 * low)].mean() for low in (100, 1600)]
        return decibels(bands[1] / bands[0]) / 4

    found = [slope_db_per_octave(f"{colour}_noise_0db") for colour in ("white", "pink", "brown")]
    assert found == pytest.approx([0, -3, -6], abs=0.5)
    peaks = set()
    for seed in range(5):
        added = BY_NAME["tone_20db"](wave, generator(seed)) - wave
        spectrum = torch.fft.rfft(added * torch.hann_window(len(added))).abs()
        peaks.add(float(spectrum.argmax()) / 8.0)
    assert len(peaks) == 5
    assert 5000 <= min(peaks) <= max(peaks) <= 7000


@pytest.mark.parametrize("condition", of_kind("gain"), ids=lambda condition: condition.name)
def test_gain(condition: Condition) -> None:
    wave = speech_like()
    changed = condition(wave, generator())
    assert decibels(power(changed) / power(wave)) == pytest.approx(condition.parameters["gain_db"], abs=1e-3)
    assert torch.allclose(changed / changed.norm(), wave / wave.norm(), atol=1e-6)


@pytest.mark.parametrize("condition", of_kind("clipping"), ids=lambda condition: condition.name)
def test_clipping_holds_the_stated_share_at_the_limit(condition: Condition) -> None:
    wave = speech_like()
    clipped = condition(wave, generator())
    at_limit = clipped.abs() >= clipped.abs().max() * (1 - 1e-6)
    assert float(at_limit.float().mean()) == pytest.approx(condition.parameters["clipped_fraction"], abs=1e-3)
    assert torch.equal(clipped[~at_limit], wave[~at_limit])


@pytest.mark.parametrize("condition", of_kind("high_pass", "low_pass"), ids=lambda condition: condition.name)
def test_filters_attenuate_beyond_the_cut_off(condition: Condition) -> None:
    cutoff, order = condition.parameters["cutoff_hz"], condition.parameters["order"]
    direction = -1 if condition.kind == "high_pass" else 1

    def gain_db(hertz: float) -> float:
        wave = sine(hertz)
        middle = slice(RATE // 4, -RATE // 4)
        return decibels(power(condition(wave, generator())[middle]) / power(wave[middle]))

    assert gain_db(cutoff) == pytest.approx(-3.01, abs=0.1)
    octave = gain_db(cutoff * 2.0 ** (direction if direction < 0 else 0.25))
    expected = -10 * np.log10(1 + 2 ** (2 * order * (1 if direction < 0 else 0.25)))
    assert octave == pytest.approx(expected, abs=0.2)
    assert gain_db(1_500) == pytest.approx(0, abs=0.3)


def test_silence_crops_and_excerpts_move_nothing_else() -> None:
    wave = speech_like()
    assert torch.equal(BY_NAME["silence_before_0.5s"](wave, generator())[RATE // 2 :], wave)
    assert not BY_NAME["silence_before_0.5s"](wave, generator())[: RATE // 2].any()
    assert torch.equal(BY_NAME["silence_after_0.0625s"](wave, generator())[:-1000], wave)
    assert torch.equal(BY_NAME["crop_begin_0.0625s"](wave, generator()), wave[1000:])
    assert torch.equal(BY_NAME["crop_end_0.0625s"](wave, generator()), wave[:-1000])
    assert len(BY_NAME["crop_end_0.0625s"](wave[:500], generator())) == 0
    starts = set()
    for seed in range(4):
        part = BY_NAME["excerpt_50%"](wave, generator(seed))
        start = int((wave == part[0]).nonzero()[0])
        starts.add(start)
        assert torch.equal(part, wave[start : start + RATE])
    assert len(starts) > 1


def test_speed_changes_length_and_pitch() -> None:
    wave = sine(1_000, 2.0)
    for factor in (0.9, 1.1):
        changed = BY_NAME[f"speed_{factor}"](wave, generator())
        assert len(changed) == pytest.approx(len(wave) / factor, abs=1)
        spectrum = torch.fft.rfft(changed * torch.hann_window(len(changed))).abs()
        assert float(spectrum.argmax()) * RATE / len(changed) == pytest.approx(1_000 * factor, abs=1)
    for seed in range(5):
        lost = 1 - len(BY_NAME["speed_in_part_1.25"](wave, generator(seed))) / len(wave)
        assert 0.1 * 0.2 - 1e-3 <= lost <= 0.2 * 0.2 + 1e-3


def test_drift_and_fade() -> None:
    wave = torch.ones(2 * RATE)
    out, into = BY_NAME["drift_out_2%_per_s"](wave, generator()), BY_NAME["drift_in_2%_per_s"](wave, generator())
    assert (float(out[0]), float(out[RATE]), float(out[-1])) == pytest.approx((1, 0.98, 0.96), abs=1e-4)
    assert torch.allclose(into.flip(0), out)
    faded = BY_NAME["fade_0.5s"](wave, generator())
    assert (float(faded[0]), float(faded[RATE // 4]), float(faded[-1])) == pytest.approx((0, 0.5, 0), abs=1e-3)
    assert torch.equal(faded[RATE // 2 : -RATE // 2], wave[RATE // 2 : -RATE // 2])
    assert len(BY_NAME["fade_0.5s"](wave[:1000], generator())) == 1000


@pytest.mark.parametrize("condition", of_kind("room"), ids=lambda condition: condition.name)
def test_rooms_ring_as_long_as_they_say_and_differ(condition: Condition) -> None:
    click = torch.zeros(3 * RATE)
    click[100] = 1
    times = []
    for seed in range(5):
        heard = condition(click, generator(seed))
        assert int(heard.abs().argmax()) == 100
        times.append(reverberation_time(heard[101:]))
    assert np.mean(times) == pytest.approx(condition.parameters["rt60_s"], rel=0.15)
    assert len(set(times)) == 5


def test_recorded_backgrounds_and_rooms_take_their_place(write_wav: Callable[..., Path], tmp_path: Path) -> None:
    write_wav("sounds/noise/a.wav", speech_like(0.5, 1).numpy())
    write_wav("sounds/music/b.wav", sine(440, 3.0).numpy() / 2)
    bank, rooms = NoiseBank.from_source(tmp_path / "sounds"), RoomBank.synthetic(num_rooms=3)
    conditions = {c.name: c for c in standard_conditions(noise=bank, rir=rooms)}
    backgrounds = [c for c in conditions.values() if c.kind.startswith("background")]
    assert [c.name for c in backgrounds] == [
        f"background_{kind}_{snr}db" for kind in ("music", "noise") for snr in (20, 10, 0)
    ]
    wave = speech_like()
    for condition in backgrounds:
        added = condition(wave, generator()) - wave
        assert decibels(power(wave) / power(added)) == pytest.approx(condition.parameters["snr_db"], abs=0.1)
    assert [c.name for c in conditions.values() if c.kind == "room"] == ["room_recorded"]
    again = {c.name: c for c in standard_conditions(noise=tmp_path / "sounds")}
    name = "background_noise_10db"
    assert torch.equal(again[name](wave, generator()), conditions[name](wave, generator()))


def test_conditions_are_chosen_by_name_or_kind() -> None:
    chosen = choose_conditions(BY_NAME.values(), ["room", "gain_-2db"])
    assert [condition.name for condition in chosen] == ["gain_-2db", "room_0.3s", "room_0.6s", "room_1.2s"]
    with pytest.raises(InputError, match=r"no condition or kind is called 'rooms'; kinds are white_noise,"):
        choose_conditions(BY_NAME.values(), ["rooms"])


@pytest.mark.corpus
def test_the_shared_noises_and_rooms(data_root: Path) -> None:
    source = data_root / "noise_rir"
    conditions = {c.name: c for c in standard_conditions(noise=source, rir=source)}
    wave = load_audio(next((data_root / "emotion_nemo").rglob("*.ogg")))
    for snr_db in (20, 10, 0):
        added = conditions[f"background_noise_{snr_db}db"](wave, generator()) - wave
        assert decibels(power(wave) / power(added)) == pytest.approx(snr_db, abs=0.1)
    click = torch.zeros(2 * RATE)
    click[500] = 1
    assert int(conditions["room_recorded"](click, generator()).abs().argmax()) == 500
