"""A run that is stopped, in whatever way, ends like one that never was: bit for bit, with workers and augmentation."""

import dataclasses
import json
import os
import random
import shutil
import signal
from pathlib import Path

import numpy as np
import processes
import pytest
import soundfile
import torch
from nested import leaves

from dino_speech.audio.audiomentations_chain import WaveformTransforms
from dino_speech.audio.augment import Augment
from dino_speech.audio.banks import NoiseBank
from dino_speech.audio.crops import MultiCrop
from dino_speech.audio.spec_augment import SpecAugment
from dino_speech.data.manifest import Manifest, read_manifest
from dino_speech.dino.pretrain import DINOPretrainer
from dino_speech.errors import InputError
from dino_speech.models.registry import build_encoder
from dino_speech.training.operating_system import Interrupted
from dino_speech.training.run_identity import describe, describe_manifest
from dino_speech.training.state import (
    TrainingState,
    capture_rng,
    differences,
    load_state,
    restore_rng,
    save_state,
    seed_everything,
)

NUM_STEPS = 10


@pytest.fixture(autouse=True)
def _one_thread():
    """The same number of threads here and in the processes that are killed: sums depend on it."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def make_trainer(**changes) -> DINOPretrainer:
    """All that draws random numbers: workers, augmentation, SpecAugment, dropout; and BatchNorm, which has state."""
    encoder = build_encoder(
        "ecapa_tdnn", embedding_dim=8, channels=8, attention_channels=8, se_channels=8, dropout=0.1, seed=0
    )
    settings = {"head": {"num_prototypes": 32, "hidden_dim": 16, "bottleneck_dim": 8}, "optimizer": {"lr": 0.01}}
    settings |= {"augment": Augment(p_noise=0.9, p_reverb=0.9), "spec_augment": SpecAugment()}
    settings |= {"schedule": {"length": NUM_STEPS, "batch_size": 4}, "objective": {"centering": "mean"}}
    settings["run"] = {"num_workers": 2, "log_every": 3, "save_every_steps": 5}
    for name, value in changes.items():
        settings[name] = {**settings.get(name, {}), **value} if isinstance(value, dict) else value
    return DINOPretrainer(encoder, MultiCrop(num_long=2, long_s=0.4, num_short=2, short_s=0.3), **settings)


class SignalAt:
    """A monitor that sends this process a signal after a step, in the middle of training."""

    def __init__(self, signum: int, call: int = 1) -> None:
        self.signum, self.calls_left = signum, call

    def __call__(self, encoder):
        self.calls_left -= 1
        if self.calls_left == 0:
            os.kill(os.getpid(), self.signum)
        return {"rank_me": 1.0}

    def better(self, new, old):
        return False


def train_that_gets(signum: int, voices: Path, output: Path, after_step: int) -> None:
    trainer = make_trainer(run={"monitor_every": after_step})
    trainer.fit(voices / "manifest.csv", output_folder=output, monitor=SignalAt(signum))


def assert_same_end(one: Path, other: Path) -> None:
    states = [load_state(folder / "state" / "last.pt") for folder in (one, other)]
    assert [state.step for state in states] == [NUM_STEPS] * 2
    assert set(states[0].modules) == {"student", "teacher", "center", "optimizer", "scaler"}
    wanted, found = ([*leaves(state.modules), *leaves(state.rng)] for state in states)
    assert len(wanted) == len(found) > 100
    for (path, value), (other_path, other_value) in zip(wanted, found, strict=True):
        assert path == other_path
        same = torch.equal(value, other_value) if isinstance(value, torch.Tensor) else value == other_value
        assert same, path
    rows = [
        [json.loads(line) for line in (folder / "history.jsonl").read_text().splitlines()] for folder in (one, other)
    ]
    timing = {"utterances_per_s", "data_wait_fraction", "seconds"}
    kept = [[{k: v for k, v in row.items() if k not in timing} for row in part if "loss" in row] for part in rows]
    assert [row["step"] for row in kept[0]] == [3, 6, 9, 10]
    assert kept[0] == kept[1]


@pytest.fixture(scope="module")
def voices(tmp_path_factory):
    """A folder with a manifest of 14 sounds."""
    folder, rng = tmp_path_factory.mktemp("voices"), np.random.default_rng(0)
    rows = ["ID,duration,wav"]
    for number in range(14):
        time = np.arange(9_000 + 600 * number) / 16_000
        wave = 0.2 * np.sign(np.sin(2 * np.pi * (90 + 30 * number) * time)) + 0.01 * rng.standard_normal(time.size)
        soundfile.write(folder / f"{number}.wav", wave.astype(np.float32), 16_000)
        rows.append(f"{number},{time.size / 16_000},{number}.wav")
    (folder / "manifest.csv").write_text("\n".join(rows) + "\n")
    return folder


@pytest.fixture(scope="module")
def whole_run(voices, tmp_path_factory):
    """A run that is never stopped, with another number of workers."""
    output, before = tmp_path_factory.mktemp("whole"), torch.get_num_threads()
    torch.set_num_threads(1)
    make_trainer(run={"num_workers": 1, "cache_gib": 0.1}).fit(voices / "manifest.csv", output_folder=output)
    torch.set_num_threads(before)
    return output


@pytest.mark.slow
def test_killed_and_resumed_equals_never_stopped(voices, tmp_path, whole_run):
    output = tmp_path / "killed"
    process = processes.begin(tmp_path / "log", train_that_gets, signal.SIGKILL, voices, output, 7)
    assert processes.ends(process) == [-signal.SIGKILL], (tmp_path / "log").read_text()[-2000:]
    assert load_state(output / "state" / "last.pt").step == 5
    assert [json.loads(line)["step"] for line in (output / "history.jsonl").read_text().splitlines()] == [3, 6]
    trainer = make_trainer().fit(voices / "manifest.csv", output_folder=output)
    assert_same_end(whole_run, output)
    assert [row["step"] for row in trainer.history_] == [3, 6, 9, 10]


@pytest.mark.slow
def test_sigterm_saves_exits_and_resumes(voices, tmp_path, whole_run):
    output = tmp_path / "terminated"
    process = processes.begin(tmp_path / "log", train_that_gets, signal.SIGTERM, voices, output, 4)
    assert processes.ends(process) == [128 + signal.SIGTERM], (tmp_path / "log").read_text()[-2000:]
    assert "Traceback" not in (tmp_path / "log").read_text()
    assert load_state(output / "state" / "last.pt").step == 4
    assert (output / "encoder" / "encoder.json").exists()
    make_trainer().fit(voices / "manifest.csv", output_folder=output)
    assert_same_end(whole_run, output)


@pytest.mark.slow
@pytest.mark.parametrize(("signum", "code"), [(signal.SIGINT, 130), (signal.SIGUSR1, 138)])
def test_a_signal_saves_raises_and_resumes(voices, tmp_path, whole_run, signum, code):
    output = tmp_path / "interrupted"
    before = signal.getsignal(signum)
    with pytest.raises(Interrupted) as caught:
        make_trainer(run={"monitor_every": 2}).fit(
            voices / "manifest.csv", output_folder=output, monitor=SignalAt(signum, call=3)
        )
    assert (caught.value.code, caught.value.signum, caught.value.step) == (code, signum, 6)
    assert signal.getsignal(signum) is before
    make_trainer().fit(voices / "manifest.csv", output_folder=output)
    assert_same_end(whole_run, output)


@pytest.mark.slow
def test_a_complete_run_is_only_loaded(voices, whole_run):
    before = (whole_run / "state" / "last.pt").stat().st_mtime_ns
    trainer = make_trainer(run={"max_minutes": 1.0}).fit(voices / "manifest.csv", output_folder=whole_run)
    assert (whole_run / "state" / "last.pt").stat().st_mtime_ns == before
    assert trainer.history_[-1]["step"] == NUM_STEPS
    wanted = load_state(whole_run / "state" / "last.pt").modules["teacher"]
    for name, value in trainer.teacher_encoder_.state_dict().items():
        assert torch.equal(value, wanted[f"module.encoder.{name}"])


@pytest.mark.slow
def test_another_number_of_processes_goes_on_with_a_warning(voices, tmp_path, caplog):
    output = tmp_path / "other"
    with pytest.raises(Interrupted):
        make_trainer(run={"monitor_every": 2}).fit(
            voices / "manifest.csv", output_folder=output, monitor=SignalAt(signal.SIGINT, call=1)
        )
    saved = load_state(output / "state" / "last.pt")
    saved.rng = saved.rng * 2  # as two processes would have left it
    save_state(saved, output / "state")
    make_trainer().fit(voices / "manifest.csv", output_folder=output)
    assert "saved by 2 process(es) and goes on with 1" in caplog.text
    assert load_state(output / "state" / "last.pt").step == NUM_STEPS


@pytest.mark.slow
def test_another_run_is_refused_by_the_key_that_differs(voices, tmp_path, whole_run):
    manifest = read_manifest(voices / "manifest.csv")
    output = Path(shutil.copytree(whole_run, tmp_path / "copy"))
    for trainer, arguments, key in [
        (make_trainer(optimizer={"lr": 0.02}), {}, r"lr: 0\.01 -> 0\.02"),
        (make_trainer(spec_augment=None), {}, r"spec_augment: \(absent\) -> None"),
        (make_trainer(augment=Augment(p_noise=0.5, p_reverb=0.9)), {}, r"augment\.p_noise: 0\.9 -> 0\.5"),
        (make_trainer(schedule={"length": 20}), {}, r"schedule\.length: 10 -> 20"),
        (make_trainer(), {"seed": 3}, r"seed: 1986 -> 3"),
        (make_trainer(), {"manifest": manifest.subset(range(12))}, r"manifest\.num_utterances: 14 -> 12"),
    ]:
        with pytest.raises(InputError, match=f"{key}.*another output_folder.*resume=False"):
            trainer.fit(arguments.pop("manifest", manifest), output_folder=output, **arguments)
    trainer = make_trainer(schedule={"length": 2}, run={"num_workers": 0}).fit(
        manifest, output_folder=output, resume=False
    )
    assert trainer.history_[-1]["step"] == 2
    assert len((output / "history.jsonl").read_text().splitlines()) == 1


def make_state(step: int = 3) -> TrainingState:
    return TrainingState(step, {"lr": 0.1}, {"student": {"w": torch.randn(4)}}, [capture_rng()], {"best": None})


def test_state_is_replaced_whole_or_not_at_all(tmp_path, monkeypatch):
    save_state(make_state(3), tmp_path, best=True)
    with monkeypatch.context() as patch:
        patch.setattr(torch, "save", lambda content, file: (file.write(b"half"), 1 / 0))
        with pytest.raises(ZeroDivisionError):
            save_state(make_state(4), tmp_path)
    save_state(make_state(5), tmp_path)
    assert load_state(tmp_path / "last.pt").step == 5
    assert load_state(tmp_path / "best.pt").step == 3
    assert sorted(path.name for path in tmp_path.iterdir()) == ["best.pt", "last.pt", "previous.pt"]
    assert load_state(tmp_path / "previous.pt").step == 3


def test_a_state_file_runs_nothing(tmp_path):
    class Hostile:
        def __reduce__(self):
            return (os.system, (f"touch {tmp_path / 'ran'}",))

    path = tmp_path / "last.pt"
    torch.save({"step": 1, "identity": Hostile(), "modules": {}, "rng": []}, path)
    with pytest.raises(InputError, match="not a training state"):
        load_state(path)
    assert not (tmp_path / "ran").exists()
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(InputError, match=r"last\.pt.*best\.pt"):
        load_state(path)


def test_random_generators_come_back(tmp_path):
    def draw():
        of_numpy = np.random.rand(), np.random.randn()  # noqa: NPY002  (the global generator is what is saved)
        return random.random(), random.gauss(0, 1), *of_numpy, torch.rand(3).tolist()

    seed_everything(4)
    draw()
    save_state(make_state(), tmp_path)
    wanted = draw()
    seed_everything(5)
    restore_rng(load_state(tmp_path / "last.pt").rng[0])
    assert draw() == wanted


def test_differences_name_nested_and_missing_keys():
    saved = {"a": 1, "b": {"c": (1, 2), "d": "x"}, "gone": 0}
    assert differences(saved, {"a": 1, "b": {"c": [1, 2], "d": "x"}, "gone": 0}) == []
    assert differences(saved, {"a": 2, "b": {"c": [1, 3], "d": "x"}, "new": None}) == [
        "a: 1 -> 2",
        "b.c: [1, 2] -> [1, 3]",
        "new: (absent) -> None",
        "gone: 0 -> (absent)",
    ]


def test_identity_says_how_things_were_made_and_survives_their_use(voices):
    manifest = read_manifest(voices / "manifest.csv")
    augment = Augment(p_noise=1.0, p_reverb=1.0)
    before = describe(augment)
    augment(torch.randn(4, 8_000), generator=torch.Generator().manual_seed(0))
    assert describe(augment) == before
    quieter = Augment(p_noise=1.0, p_reverb=1.0, noise=NoiseBank([torch.randn(9_000)], ["noise"]), kinds=["noise"])
    assert {line.split(":")[0] for line in differences(before, describe(quieter))} >= {"noise.clips.num", "kinds"}
    assert describe(build_encoder("xvector", seed=0))["name"] == "xvector"
    chain = WaveformTransforms([{"name": "Clip", "p": 1.0}])
    assert describe(chain) == {"class": "WaveformTransforms", "transforms": [{"name": "Clip", "p": 1.0}]}
    assert json.loads(json.dumps(before)) == before
    moved = Manifest([dataclasses.replace(u, wav=f"/elsewhere/{u.id}") for u in manifest])
    assert describe_manifest(moved) == describe_manifest(manifest)
    assert describe_manifest(manifest.subset([1, 0, *range(2, 14)])) != describe_manifest(manifest)
