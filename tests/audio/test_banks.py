"""Noise and room banks: what is read from folders and manifests, and what is drawn from them."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from dino_speech.audio.banks import LEAD_SAMPLES, NoiseBank, RoomBank, list_sounds
from dino_speech.audio.io import AudioError
from dino_speech.errors import InputError

WriteWav = Callable[..., Path]


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def hiss(duration_s: float, seed: int = 0) -> np.ndarray:
    return (0.1 * np.random.default_rng(seed).standard_normal(round(duration_s * 16_000))).astype(np.float32)


def decay(rt60_s: float, *, delay: int = 300, seed: int = 0, gain: float = 0.5) -> np.ndarray:
    """A room response whose direct sound is at sample `delay`."""
    time_s = np.arange(16_000) / 16_000
    tail = 0.2 * np.random.default_rng(seed).standard_normal(16_000) * 10 ** (-3 * time_s / rt60_s)
    tail[0] = 1.0
    return gain * np.concatenate([np.zeros(delay), np.clip(tail, -0.9, 1)]).astype(np.float32)


@pytest.fixture
def collection(tmp_path: Path, write_wav: WriteWav) -> Path:
    """A manifest of two noises, a piece of music, two talkers and two rooms."""
    rows = ["utt_id,path,kind,category,rt60_s"]
    for number, (kind, category) in enumerate(
        [("noise", "rain"), ("noise", "baby_cry"), ("music", "piano"), ("speech", "talk"), ("babble", "talk")]
    ):
        write_wav(f"sounds/{number}.wav", hiss(3 + number, seed=number))
        rows.append(f"{number},{number}.wav,{kind},{category},")
    for name, rt60_s in (("dry", 0.2), ("wet", 0.9)):
        write_wav(f"sounds/{name}.wav", decay(rt60_s))
        rows.append(f"{name},{name}.wav,rir,room,{rt60_s}")
    (tmp_path / "sounds" / "manifest.csv").write_text("\n".join(rows) + "\n")
    return tmp_path / "sounds"


def test_a_folder_with_a_manifest_and_the_manifest_are_the_same(collection: Path) -> None:
    assert list_sounds(collection) == list_sounds(collection / "manifest.csv")
    noise = NoiseBank.from_source(collection)
    assert {kind: len(of) for kind, of in noise.of_kind.items()} == {"music": 1, "noise": 2, "speech": 2}
    assert RoomBank.from_source(collection).rt60_s.tolist() == pytest.approx([0.2, 0.9])


def test_a_folder_without_a_manifest_goes_by_its_folders(write_wav: WriteWav, tmp_path: Path) -> None:
    for name in ("noise/free-sound/a.wav", "music/rfm/b.wav", "speech/librivox/c.wav", "street/d.wav"):
        write_wav(f"musan/{name}", hiss(1.0))
    kinds = {sound.path.stem: (sound.kind, sound.category) for sound in list_sounds(tmp_path / "musan")}
    assert kinds == {
        "a": ("noise", "free-sound"),
        "b": ("music", "rfm"),
        "c": ("speech", "librivox"),
        "d": ("noise", "street"),
    }


def test_categories_can_be_left_out(collection: Path) -> None:
    bank = NoiseBank.from_source(collection, exclude=["baby_cry"])
    assert len(bank.of_kind["noise"]) == 1
    with pytest.raises(InputError, match="no category 'baby' to leave out; it has baby_cry, piano"):
        NoiseBank.from_source(collection, exclude=["baby"])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("path,kind\na.wav,nois\n", r"manifest\.csv row 2: kind is 'nois'; expected one of noise, music"),
        ("file,kind\na.wav,noise\n", "row 2: no path; expected a column `wav` or `path`"),
        ("path,kind\nabsent.wav,noise\n", r"absent\.wav: no such file"),
        ("path,kind,rt60_s\na.wav,rir,long\n", r"row 2: rt60_s is 'long'; expected seconds"),
        ("path,kind\na.wav,rir\n", "room responses only"),
        ("path,kind\n", "no sounds"),
    ],
)
def test_a_wrong_manifest_names_its_row(write_wav: WriteWav, tmp_path: Path, content: str, message: str) -> None:
    write_wav("a.wav", hiss(1.0))
    (tmp_path / "manifest.csv").write_text(content)
    with pytest.raises(InputError, match=message):
        NoiseBank.from_source(tmp_path / "manifest.csv")


def test_windows_are_stretches_of_their_clips() -> None:
    clips = [torch.arange(1_000.0), 10_000 + torch.arange(5_000.0)]
    bank = NoiseBank(clips, ["noise", "noise"])
    windows = bank.draw("noise", 200, 700, generator())
    assert windows.shape == (200, 700)
    for window in windows:  # ramps: consecutive samples of one clip, both ends within it
        assert torch.equal(window, window[0] + torch.arange(700.0))
    firsts = windows[:, 0]
    assert 60 < int((firsts >= 10_000).sum()) < 140
    assert float(firsts[firsts < 10_000].max()) <= 300


def test_a_short_clip_is_repeated_from_any_phase() -> None:
    clip = torch.arange(100.0)
    bank = NoiseBank([clip, torch.zeros(50)], ["noise", "music"])
    windows = bank.draw("noise", 300, 450, generator())
    repeated = clip.repeat(6)
    assert all(torch.equal(window, repeated[int(window[0]) :][:450]) for window in windows)
    assert float(windows[:, 0].max()) > 90


@pytest.mark.parametrize("num_samples", [300, 1_000, 2_500])
def test_one_window_is_a_stretch_of_a_repeated_clip(num_samples: int) -> None:
    bank = NoiseBank([torch.arange(1_000.0), torch.arange(2_000.0, 2_600.0)], ["noise", "noise"])
    for seed in range(20):
        window = bank.draw_one("noise", num_samples, generator(seed))
        clip = bank.clips[0] if window[0] < 1_000 else bank.clips[1]
        phase = int(window[0] - clip[0])
        assert torch.equal(window, clip.repeat(9)[phase : phase + num_samples])


def test_what_is_drawn_does_not_depend_on_earlier_draws_of_other_lengths() -> None:
    clips = [torch.randn(n, generator=generator(n)) for n in (300, 900, 2_000)]
    fresh, used = (NoiseBank(clips, ["noise"] * 3) for _ in range(2))
    used.draw("noise", 5, 1_500, generator(3))
    assert torch.equal(fresh.draw("noise", 50, 600, generator(1)), used.draw("noise", 50, 600, generator(1)))


def test_memory_is_capped_and_shared_among_the_files(write_wav: WriteWav, tmp_path: Path) -> None:
    for number in range(6):
        write_wav(f"noise/{number}.wav", hiss(15.0, seed=number))
    capped = NoiseBank.from_source(tmp_path / "noise", max_total_s=66.0)
    assert capped.lengths.tolist() == pytest.approx([11 * 16_000] * 6, abs=200)
    few = NoiseBank.from_source(tmp_path / "noise", max_total_s=20.0)
    assert few.lengths.tolist() == pytest.approx([10 * 16_000] * 2, abs=200)


def test_silent_ends_are_cut(write_wav: WriteWav, tmp_path: Path) -> None:
    padded = np.concatenate([np.zeros(8_000), hiss(0.5), np.zeros(30_000)]).astype(np.float32)
    write_wav("noise/padded.wav", padded)
    write_wav("noise/silent.wav", np.zeros(16_000, dtype=np.float32))
    bank = NoiseBank.from_source(tmp_path / "noise")
    assert bank.lengths.tolist() == pytest.approx([8_000], abs=20)


def test_synthetic_noise_is_the_same_for_everyone() -> None:
    first, second = NoiseBank.synthetic(num_clips=3, clip_s=1.0), NoiseBank.synthetic(num_clips=3, clip_s=1.0)
    assert torch.equal(first.clips[2], second.clips[2])
    assert list(first.of_kind) == ["noise"]


def test_rooms_are_aligned_cut_and_of_unit_energy(collection: Path) -> None:
    bank = RoomBank.from_source(collection, max_s=0.5)
    assert bank.responses.shape == (2, 8_000)
    assert bank.responses.abs().argmax(dim=1).tolist() == [LEAD_SAMPLES] * 2
    torch.testing.assert_close(bank.responses.norm(dim=1), torch.ones(2))
    assert float(bank.responses[:, -1].abs().max()) == 0.0
    original = decay(0.9)[300 - LEAD_SAMPLES :][:7_800]
    scale = float(bank.responses[1, LEAD_SAMPLES]) / original[LEAD_SAMPLES]
    np.testing.assert_allclose(bank.responses[1, :7_800], scale * original, atol=1e-4)


def test_reverberation_times_are_estimated_where_unknown_and_limit_the_choice(
    write_wav: WriteWav, tmp_path: Path
) -> None:
    for name, rt60_s in (("a_dry", 0.2), ("b_wet", 0.8)):
        write_wav(f"rooms/{name}.wav", decay(rt60_s))
    bank = RoomBank.from_source(tmp_path / "rooms")
    assert bank.rt60_s.tolist() == pytest.approx([0.2, 0.8], rel=0.25)
    assert len(bank.within(0.5)) == 1
    assert bank.within(None) is bank
    with pytest.raises(InputError, match=r"max_rt60_s=0\.1: the driest of 2 rooms has an RT60 of 0\.\d+ s"):
        bank.within(0.1)


def test_of_several_microphones_the_first_is_taken(tmp_path: Path) -> None:
    (tmp_path / "rooms").mkdir()
    channels = np.stack([decay(0.3), np.roll(decay(0.3, seed=1), 900)], axis=1)
    soundfile.write(tmp_path / "rooms" / "array.wav", channels, 16_000, subtype="FLOAT")
    bank = RoomBank.from_source(tmp_path / "rooms")
    expected = RoomBank.from_responses([torch.from_numpy(decay(0.3))])
    torch.testing.assert_close(bank.responses, expected.responses)


def test_a_silent_room_is_refused(write_wav: WriteWav, tmp_path: Path) -> None:
    write_wav("rooms/silent.wav", np.zeros(1_000, dtype=np.float32))
    with pytest.raises(AudioError, match=r"silent\.wav: a room response that is silent"):
        RoomBank.from_source(tmp_path / "rooms")


def test_synthetic_rooms_cover_their_range() -> None:
    bank = RoomBank.synthetic(num_rooms=100, rt60_s=(0.1, 0.8))
    assert 0.1 <= float(bank.rt60_s.min()) < 0.15
    assert 0.75 < float(bank.rt60_s.max()) <= 0.8
    assert bank.responses.abs().argmax(dim=1).eq(LEAD_SAMPLES).all()


@pytest.mark.corpus
def test_the_shared_noises_and_rooms(data_root: Path) -> None:
    pack = data_root / "noise_rir"
    if not pack.exists():
        pytest.skip(f"no {pack}")
    noise = NoiseBank.from_source(pack, exclude=["baby_cry", "person_sneeze"])
    assert {kind: len(of) for kind, of in noise.of_kind.items()} == {"noise": 88}
    assert torch.isfinite(noise.draw("noise", 50, 32_000, generator())).all()
    rooms = RoomBank.from_source(pack)
    assert len(rooms) == 51
    assert len(rooms.within(1.5)) == 19
