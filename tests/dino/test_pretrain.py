import csv
import io
import json
import multiprocessing
import shutil
import time
from pathlib import Path

import numpy as np
import processes
import pytest
import soundfile
import torch
from test_self_distillation import make_encoder

from dino_speech.audio.augment import Augment
from dino_speech.audio.crops import MultiCrop
from dino_speech.data.manifest import read_manifest
from dino_speech.data.trials import make_trials
from dino_speech.dino.collapse_doctor import TrainingCollapsed
from dino_speech.dino.pretrain import DINOPretrainer
from dino_speech.errors import InputError
from dino_speech.evaluation.monitor import Monitor
from dino_speech.models.checkpoint import load_encoder
from dino_speech.models.registry import build_encoder
from dino_speech.training.history import History, Progress, Stopwatch, read_history
from dino_speech.training.loop import NonFiniteLoss
from dino_speech.training.state import load_state

CROPS = MultiCrop(num_long=2, long_s=0.4, num_short=2, short_s=0.3)


@pytest.fixture(autouse=True)
def _one_thread():
    """Such small tensors only wait for a second thread."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def make_trainer(encoder=None, **changes) -> DINOPretrainer:
    if encoder is None:
        options = {"channels": 8, "attention_channels": 8, "se_channels": 8}
        encoder = build_encoder("ecapa_tdnn", embedding_dim=8, seed=0, **options)
    settings = {"head": {"num_prototypes": 32, "hidden_dim": 16, "bottleneck_dim": 8}, "optimizer": {"lr": 0.01}}
    settings |= {"schedule": {"length": 4, "batch_size": 4}, "run": {"num_workers": 0, "log_every": 2}}
    for name, value in changes.items():
        settings[name] = {**settings.get(name, {}), **value} if isinstance(value, dict) else value
    return DINOPretrainer(encoder, CROPS, **settings)


def weights(encoder) -> torch.Tensor:
    return torch.cat([value.flatten().double() for value in encoder.state_dict().values()])


@pytest.fixture
def manifest(voices_folder):
    return read_manifest(voices_folder / "manifest.csv")


@pytest.mark.slow
def test_fit_leaves_an_encoder_and_the_record_of_the_run(manifest, tmp_path, capsys):
    trainer = make_trainer()
    before = weights(trainer.encoder)
    assert trainer.fit(manifest, output_folder=tmp_path / "out") is trainer
    assert torch.equal(weights(trainer.encoder), before), "fit trains a copy"
    encoder = load_encoder(tmp_path / "out" / "encoder")
    assert torch.equal(weights(encoder), weights(trainer.teacher_encoder_))
    assert not torch.equal(weights(encoder), before)
    assert encoder.embed_file(manifest[0].wav).shape == (8,)
    assert trainer.history_ == read_history(tmp_path / "out" / "history.jsonl")
    assert [row["step"] for row in trainer.history_] == [2, 4]
    expected = "epoch loss koleo lr weight_decay teacher_momentum teacher_temperature grad_norm teacher_entropy "
    expected += "batch_mean_entropy embedding_spread rank_me teacher_gap utterances_per_s data_wait_fraction seconds"
    assert set(expected.split()) <= set(trainer.history_[-1])
    record = json.loads((tmp_path / "out" / "hyperparameters.json").read_text())
    assert (record["head"]["num_prototypes"], record["seed"], record["crops"]["long_s"]) == (32, 1986, 0.4)
    assert record["provenance"]["manifests"][0]["sha256"]
    provenance = json.loads((tmp_path / "out" / "encoder" / "provenance.json").read_text())
    assert (provenance["step"], provenance["pretraining"]["schedule"]["length"]) == (4, 4)
    assert (trainer.best_, trainer.skipped_, trainer.stop_reason_) == (None, {}, None)
    shown = capsys.readouterr()
    assert shown.out == ""
    for part in ("step 2/4", "loss ", "entropy/lnK", "spread", "utt/s", "data wait"):
        assert part in shown.err


@pytest.mark.slow
def test_same_seed_same_encoder(manifest, tmp_path):
    runs = [make_trainer().fit(manifest, output_folder=tmp_path / str(i), seed=s) for i, s in enumerate((1, 1, 2))]
    ends = [weights(run.teacher_encoder_) for run in runs]
    assert torch.equal(ends[0], ends[1])
    assert not torch.equal(ends[0], ends[2])


@pytest.mark.slow
def test_monitor_keeps_the_best_teacher_and_changes_nothing(manifest, tmp_path):
    class Drawing(Monitor):
        def __call__(self, encoder):
            torch.rand(3)
            np.random.rand(3)  # noqa: NPY002
            return super().__call__(encoder)

    snapshots = tmp_path / "out" / "snapshots"
    monitor = Drawing(manifest, trials=make_trials(manifest, seed=0, max_trials=40), label="speaker")
    plain = make_trainer().fit(manifest, output_folder=tmp_path / "plain")
    run = {"monitor_every": 1, "snapshot_every": 3}
    trainer = make_trainer(run=run).fit(manifest, output_folder=tmp_path / "out", monitor=monitor)
    assert sorted(path.name for path in snapshots.iterdir()) == ["0000003", "0000004"]
    assert torch.equal(weights(load_encoder(snapshots / "0000004")), weights(trainer.teacher_encoder_))
    assert not torch.equal(weights(load_encoder(snapshots / "0000003")), weights(trainer.teacher_encoder_))
    assert torch.equal(weights(plain.teacher_encoder_), weights(trainer.teacher_encoder_))
    eers = {row["step"]: row["monitor"]["eer"] for row in trainer.history_ if "monitor" in row}
    assert list(eers) == [1, 2, 3, 4]
    best_step = min(eers, key=eers.__getitem__)
    assert trainer.best_["step"] == best_step
    best = load_encoder(tmp_path / "out" / "best" / "encoder")
    assert monitor(best)["eer"] == pytest.approx(eers[best_step])
    assert load_state(tmp_path / "out" / "state" / "best.pt").step == best_step


@pytest.mark.slow
def test_tensorboard_has_the_figures_by_step(manifest, tmp_path):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    trainer = make_trainer().fit(manifest, output_folder=tmp_path / "out")
    events = EventAccumulator(str(tmp_path / "out" / "tensorboard"))
    events.Reload()
    found = {event.step: event.value for event in events.Scalars("loss")}
    assert found == pytest.approx({row["step"]: row["loss"] for row in trainer.history_})


@pytest.mark.slow
def test_time_budget_stops_cleanly_and_goes_on(manifest, tmp_path, caplog):
    whole = make_trainer().fit(manifest, output_folder=tmp_path / "whole")
    stopped = make_trainer(run={"max_minutes": 1e-6}).fit(manifest, output_folder=tmp_path / "out")
    assert stopped.stop_reason_ == "max_minutes"
    assert "stopped after step 1 of 4: max_minutes" in caplog.text
    assert load_encoder(tmp_path / "out" / "encoder") is not None
    resumed = make_trainer(run={"max_minutes": 30.0}).fit(manifest, output_folder=tmp_path / "out")
    assert resumed.stop_reason_ is None
    assert torch.equal(weights(resumed.teacher_encoder_), weights(whole.teacher_encoder_))
    losses = [[row["loss"] for row in run.history_] for run in (whole, resumed)]
    assert losses[0] == losses[1]


@pytest.mark.slow
def test_bad_files_are_listed_and_the_run_goes_on(voices_folder, tmp_path, caplog):
    folder = Path(shutil.copytree(voices_folder, tmp_path / "bad"))
    rows = (folder / "manifest.csv").read_text().splitlines()[:9]
    (folder / "corrupt.wav").write_bytes(b"RIFFgarbage")
    (folder / "empty.flac").write_bytes(b"")
    soundfile.write(folder / "silent.wav", np.zeros(16_000, dtype=np.float32), 16_000)
    soundfile.write(folder / "nan.wav", np.full(16_000, np.nan, dtype=np.float32), 16_000, subtype="FLOAT")
    bad = ["corrupt.wav", "empty.flac", "silent.wav", "nan.wav", "absent.wav"]
    rows += [f"{name},1.0,{name},," for name in bad]
    (folder / "manifest.csv").write_text("\n".join(rows) + "\n")
    trainer = make_trainer(schedule={"length": 9}, run={"num_workers": 2}).fit(
        folder / "manifest.csv", output_folder=tmp_path / "out"
    )
    assert sorted(Path(file).name for file in trainer.skipped_) == sorted(bad)
    with (tmp_path / "out" / "skipped.csv").open() as file:
        assert {Path(row["file"]).name for row in csv.DictReader(file)} == set(bad)
    assert "skipped 3 file(s) so far" in caplog.text
    assert "5 file(s) were skipped" in caplog.text


@pytest.mark.slow
def test_waiting_for_data_is_told_once_with_the_cure(manifest, tmp_path, caplog):
    def slowly(wave, *, generator):
        time.sleep(0.05)
        return wave

    make_trainer(transforms=slowly, run={"log_every": 1}).fit(manifest, output_folder=tmp_path / "out")
    assert caplog.text.count("training waits for data") == 1
    assert "raise num_workers (now 0)" in caplog.text


def test_what_cannot_work_is_refused_before_anything_is_written(manifest, tmp_path):
    statistics = build_encoder("fbank_stats")
    for trainer, message in [
        (make_trainer(schedule={"batch_size": 32}), r"16 utterances, fewer than batch_size = 32: lower batch_size"),
        (make_trainer(schedule={"warmup": 4}), r"warm-up of 4 steps, but the run has 4"),
        (make_trainer(encoder=statistics), r"'fbank_stats' has nothing to train"),
        (make_trainer(schedule={"batch_size": 4, "accumulation_steps": 4}), r"at least 2: raise batch_size"),
        (make_trainer(run={"precision": "fp16"}), r"needs a GPU"),
        (make_trainer(objective={"loss_weight": 0, "contrast_weight": 1}), r"set teacher\.batchnorm: ema"),
    ]:
        with pytest.raises(InputError, match=message):
            trainer.fit(manifest, output_folder=tmp_path / "out", device="cpu")
    tiny = make_trainer()
    tiny.crops = MultiCrop(num_long=2, long_s=0.4, num_short=2, short_s=0.05)
    with pytest.raises(InputError, match="lengthen short_s"):
        tiny.fit(manifest, output_folder=tmp_path / "out")
    long_only = make_trainer(objective={"student_views": "short"})
    long_only.crops = MultiCrop(num_long=2, long_s=0.4, num_short=0, short_s=0.3)
    with pytest.raises(InputError, match="at least 1; raise num_short"):
        long_only.fit(manifest, output_folder=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_utterances_shorter_than_the_crops_allow_are_left_out_and_counted(manifest, tmp_path, caplog):
    trainer = make_trainer(schedule={"length": 2})
    trainer.crops = MultiCrop(num_long=2, long_s=0.4, num_short=0, short_s=0.3, min_s=1.3)  # 4 of 16 have 1.2 s
    trainer.fit(manifest, output_folder=tmp_path / "out")
    assert "4 of 16 utterances are shorter than min_s = 1.3 s and left out" in caplog.text
    saved = json.loads((tmp_path / "out" / "hyperparameters.json").read_text())
    assert saved["manifest"]["num_utterances"] == 12
    trainer.crops = MultiCrop(num_long=2, long_s=0.4, num_short=0, short_s=0.3, min_s=99.0)
    with pytest.raises(InputError, match=r"all 16 utterances are shorter .* 99 s, the longest has 2\.1"):
        trainer.fit(manifest, output_folder=tmp_path / "other")


@pytest.mark.slow
def test_contrast_alone_trains_logs_and_leaves_an_encoder(manifest, tmp_path):
    objective = {"loss_weight": 0.0, "koleo_weight": 0.0, "contrast_weight": 1.0}
    trainer = make_trainer(objective=objective, teacher={"batchnorm": "ema"}, run={"log_every": 1})
    trainer.fit(manifest, output_folder=tmp_path / "out")
    assert [set(row) & {"loss", "contrast", "teacher_entropy"} for row in trainer.history_] == [
        {"loss", "contrast"}
    ] * 4
    assert trainer.history_[0]["loss"] == trainer.history_[0]["contrast"]
    assert load_encoder(tmp_path / "out" / "encoder").embed_file(manifest[0].wav).isfinite().all()


@pytest.mark.slow
def test_collapse_is_named_with_its_knob_and_stops_if_asked(manifest, tmp_path, caplog):
    changes = {
        "teacher": {"momentum": 0.0, "momentum_end": 0.0},
        "run": {"log_every": 1},
        "schedule": {"length": 8, "warmup": 0},
    }
    trainer = make_trainer(**changes).fit(manifest, output_folder=tmp_path / "warned")
    assert "teacher is the student" in caplog.text
    assert trainer.history_[-1]["findings"] == ["teacher is the student"]
    changes["run"]["stop_on_collapse"] = True
    with pytest.raises(TrainingCollapsed, match=r"stopped at step 3: teacher is the student.*teacher\.momentum"):
        make_trainer(**changes).fit(manifest, output_folder=tmp_path / "stopped")


OBJECTIVES_OF_A_BATCH = {
    "mean": {"centering": "mean", "koleo_weight": 0.0},
    "sinkhorn": {"centering": "sinkhorn", "koleo_weight": 0.1},
    "contrast": {"koleo_weight": 0.1, "contrast_weight": 1.0, "frobenius_weight": 0.1, "loss_weight": 0.5},
    "sdpn": {"student_views": "short", "mean_entropy_weight": 1.0},
    "simdino": {"loss": "cosine", "coding_rate_weight": 1.0, "koleo_weight": 0.0},
}


def train_each_objective(manifest: Path, folder: Path) -> None:
    for name, objective in OBJECTIVES_OF_A_BATCH.items():
        make_trainer(
            make_encoder(),
            head={"batch_norm": False},
            objective=objective,
            schedule={"batch_size": 8, "warmup": 0},
            optimizer={"name": "sgd", "lr": 0.1},
            run={"precision": "fp32"},
        ).fit(manifest, output_folder=folder / name, device="cpu")


@pytest.mark.slow
def test_two_processes_equal_one(tmp_path, voices_folder):
    given = voices_folder / "manifest.csv"
    two = processes.begin_together(2, tmp_path, train_each_objective, given, tmp_path / "two")
    train_each_objective(given, tmp_path / "one")
    codes, logs = processes.ends(*two), [(tmp_path / f"{rank}.log").read_text() for rank in range(2)]
    assert codes == [0, 0], logs
    assert "step 4/4" in logs[0]
    assert "step 4/4" not in logs[1], "only the main process shows progress"
    for objective in OBJECTIVES_OF_A_BATCH:
        folders = [tmp_path / name / objective for name in ("one", "two")]
        one, two = (load_state(folder / "state" / "last.pt") for folder in folders)
        assert len(two.rng) == 2
        for part in ("student", "teacher", "center"):
            for name, value in one.modules[part].items():
                message = f"{objective} {part} {name}"
                torch.testing.assert_close(two.modules[part][name], value, atol=1e-5, rtol=1e-4, msg=message)
        losses = [[row["loss"] for row in read_history(folder / "history.jsonl")] for folder in folders]
        assert losses[0] == pytest.approx(losses[1], abs=1e-5)


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler")
def test_compiled_networks_give_nearly_the_same(manifest, tmp_path):
    changes = {"encoder": make_encoder(), "schedule": {"length": 2}}
    plain, compiled = (
        make_trainer(run={"compile": flag, "precision": "fp32", "log_every": 1}, **changes).fit(
            manifest, output_folder=tmp_path / str(flag)
        )
        for flag in (False, True)
    )
    losses = [[row["loss"] for row in run.history_] for run in (plain, compiled)]
    assert losses[0] == pytest.approx(losses[1], rel=2e-3)
    assert plain.teacher_encoder_.state_dict().keys() == compiled.teacher_encoder_.state_dict().keys()


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("precision", ["bf16", "fp16", "fp32"])
def test_a_gpu_trains_stops_and_goes_on(manifest, tmp_path, precision):
    run = {"precision": precision, "log_every": 1, "num_workers": 1}
    changes = {"schedule": {"length": 12}, "augment": Augment()}
    make_trainer(run={**run, "max_minutes": 1e-6}, **changes).fit(
        manifest, output_folder=tmp_path / "out", device="cuda"
    )
    trainer = make_trainer(run=run, **changes).fit(manifest, output_folder=tmp_path / "out", device="cuda")
    assert [row["step"] for row in trainer.history_] == list(range(1, 13))
    assert all(np.isfinite(row["loss"]) for row in trainer.history_)
    assert trainer.teacher_encoder_.device.type == "cuda"
    assert load_encoder(tmp_path / "out" / "encoder").embed_file(manifest[0].wav).isfinite().all()


def test_reading_processes_end_with_an_error_whose_traceback_is_kept(manifest, tmp_path):
    """Python would wait for them for ever where a script ends by the error."""
    run = {"num_workers": 1, "precision": "fp32"}
    with pytest.raises(NonFiniteLoss) as error:  # in the step
        make_trainer(run=run, augment=lambda waves, **_: waves * float("nan")).fit(
            manifest, output_folder=tmp_path / "nan", device="cpu"
        )
    assert not multiprocessing.active_children(), error.traceback
    for utterance in manifest:
        soundfile.write(utterance.wav, np.zeros(1_000), 16_000)
    with pytest.raises(InputError, match="cannot be used") as error:  # in the loader
        make_trainer(run=run).fit(manifest, output_folder=tmp_path / "short", device="cpu")
    assert not multiprocessing.active_children(), error.traceback


def test_history_drops_steps_that_are_taken_again_and_a_torn_line(tmp_path):
    history = History(tmp_path)
    for step in (2, 4, 6):
        history.add({"step": step, "loss": 1.0 / step})
    history.add({"step": 7, "grad_norm": float("inf"), "monitor": {"eer": float("nan")}})
    assert history.rows[-1] == {"step": 7, "grad_norm": None, "monitor": {"eer": None}}
    history.close()
    with (tmp_path / "history.jsonl").open("a") as file:
        file.write('{"step": 8, "lo')
    assert [row["step"] for row in read_history(tmp_path / "history.jsonl")] == [2, 4, 6, 7]
    resumed = History(tmp_path, start_step=5)
    assert [row["step"] for row in resumed.rows] == [2, 4]
    assert not any(isinstance(kept, list) for kept in vars(resumed).values()), "rows stay on the disk: runs are long"
    assert [row["step"] for row in read_history(tmp_path / "history.jsonl")] == [2, 4]


def test_stopwatch_leaves_out_pauses_and_counts_waiting():
    start = time.perf_counter()
    watch = Stopwatch()
    watch.count(10)
    time.sleep(0.1)
    with watch.paused():
        time.sleep(0.3)
    lap = watch.lap(wait_s=0.05)
    at_most_s = time.perf_counter() - start - 0.3 + 1e-3
    assert 10 / at_most_s < lap["utterances_per_s"] <= 10 / 0.1
    assert 0.05 / at_most_s < lap["data_wait_fraction"] <= 0.5
    time.sleep(0.05)
    assert watch.lap(wait_s=0.05)["data_wait_fraction"] == 0.0


def test_progress_is_a_bar_on_a_terminal_and_lines_elsewhere():
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    row = {"step": 2, "loss": 1.5, "utterances_per_s": 3.0, "data_wait_fraction": 0.25}
    for stream, expected in ((Terminal(), "2/4"), (io.StringIO(), "step 2/4  loss 1.500  3.0 utt/s  data wait 25 %\n")):
        progress = Progress(4, start_step=1, stream=stream)
        progress.advance()
        progress.show(row)
        progress.note("monitor: eer 20")
        progress.close()
        assert expected in stream.getvalue()
        assert "loss 1.500" in stream.getvalue()
        assert "monitor: eer 20" in stream.getvalue()
    silent = io.StringIO()
    Progress(4, enabled=False, stream=silent).note("nothing")
    assert silent.getvalue() == ""
