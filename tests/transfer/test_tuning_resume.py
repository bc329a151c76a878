"""A fine-tuning that is stopped, in whichever stage, ends like one that never was: bit for bit."""

import json
import os
import signal

import pytest
import torch
from nested import leaves

from dino_speech.audio.augment import Augment
from dino_speech.audio.spec_augment import SpecAugment
from dino_speech.errors import InputError
from dino_speech.training.history import Progress
from dino_speech.training.operating_system import Interrupted
from dino_speech.training.state import load_state
from dino_speech.transfer.finetune import FineTuner
from dino_speech.transfer.stages import FineTuneStage

TIMING = {"utterances_per_s", "data_wait_fraction", "seconds"}


def tuner_of(encoder, **changes) -> FineTuner:
    """All that draws random numbers: order, chunks, augmentation, masks, two kinds of dropout."""
    augment = Augment(p_noise=0.9, p_reverb=0.5)
    stages = [
        FineTuneStage("affine", epochs=2, chunk_s=0.4, lr=1e-2, augment=augment),
        FineTuneStage("all", epochs=2, chunk_s=0.5, lr=1e-3, layer_decay=0.8, spec_augment=SpecAugment()),
    ]
    settings = {"label": "emotion", "batch_size": 5, "num_workers": 0, "log_every": 2, "dropout": 0.2}
    return FineTuner(encoder, **{"stages": stages, **settings, **changes})


def test_a_setting_that_came_later_leaves_older_runs_as_they_are(encoder, train, tmp_path) -> None:
    stages = [FineTuneStage("head", steps=1, chunk_s=0.4)]
    tuner_of(encoder, stages=stages).fit(train, output_folder=tmp_path)
    assert "silent_dbfs" not in load_state(tmp_path / "state" / "last.pt").identity
    with pytest.raises(InputError, match="silent_dbfs"):
        tuner_of(encoder, stages=stages, silent_dbfs=-90.0).fit(train, output_folder=tmp_path)


@pytest.fixture
def stop_after(monkeypatch):
    """`stop_after(n)`: a signal arrives in the n-th step from now."""

    def arrange(num_steps: int, signum: int = signal.SIGINT) -> None:
        left, advance = [num_steps], Progress.advance

        def advance_and_stop(self):
            advance(self)
            left[0] -= 1
            if left[0] == 0:
                os.kill(os.getpid(), signum)

        monkeypatch.setattr(Progress, "advance", advance_and_stop)

    return arrange


def assert_same(one, other) -> None:
    found, expected = (list(leaves(vars(load_state(folder / "state" / "last.pt")))) for folder in (one, other))
    assert len(found) == len(expected) > 100
    for (path, value), (other_path, other_value) in zip(found, expected, strict=True):
        assert path == other_path
        same = torch.equal(value, other_value) if isinstance(value, torch.Tensor) else value == other_value
        assert same, path
    rows = [
        [{k: v for k, v in json.loads(line).items() if k not in TIMING} for line in file.read_text().splitlines()]
        for file in (one / "history.jsonl", other / "history.jsonl")
    ]
    assert rows[0] == rows[1]
    head = "head.safetensors"
    assert (one / "system" / head).read_bytes() == (other / "system" / head).read_bytes()


@pytest.mark.slow
@pytest.mark.parametrize("validated", [True, False])
def test_stopped_in_each_stage_and_resumed_equals_never_stopped(
    encoder, train, valid, tmp_path, stop_after, validated
) -> None:
    valid = valid if validated else None
    tuner_of(encoder).fit(train, valid=valid, output_folder=tmp_path / "whole")  # 3 + 3 and 3 + 3 steps
    stop_after(5)
    with pytest.raises(Interrupted) as caught:
        tuner_of(encoder).fit(train, valid=valid, output_folder=tmp_path / "stopped")
    assert (caught.value.step, caught.value.code) == (5, 130)
    stop_after(3, signal.SIGTERM)
    with pytest.raises(Interrupted) as caught:
        tuner_of(encoder, num_workers=1).fit(train, valid=valid, output_folder=tmp_path / "stopped")
    assert (caught.value.step, caught.value.code) == (8, 143)
    tuner = tuner_of(encoder).fit(train, valid=valid, output_folder=tmp_path / "stopped")
    assert_same(tmp_path / "whole", tmp_path / "stopped")
    assert tuner.stop_reason_ is None


@pytest.mark.slow
def test_stopped_between_two_stages(encoder, train, valid, tmp_path, stop_after) -> None:
    tuner_of(encoder).fit(train, valid=valid, output_folder=tmp_path / "whole")
    stop_after(6)
    with pytest.raises(Interrupted):
        tuner_of(encoder).fit(train, valid=valid, output_folder=tmp_path / "stopped")
    assert "optimizer" not in load_state(tmp_path / "stopped" / "state" / "last.pt").modules
    tuner_of(encoder).fit(train, valid=valid, output_folder=tmp_path / "stopped")
    assert_same(tmp_path / "whole", tmp_path / "stopped")


@pytest.mark.slow
def test_a_complete_run_is_only_loaded(encoder, train, valid, tmp_path) -> None:
    first = tuner_of(encoder).fit(train, valid=valid, output_folder=tmp_path)
    again = tuner_of(encoder).fit(train, valid=valid, output_folder=tmp_path)
    assert again.history_ == first.history_
    assert again.best_ == first.best_
    assert (again.predict(valid).probabilities == first.predict(valid).probabilities).all()


@pytest.mark.slow
def test_max_minutes_stops_and_goes_on(encoder, train, tmp_path) -> None:
    stages = [FineTuneStage("affine", steps=2, chunk_s=0.4), FineTuneStage("all", steps=2, chunk_s=0.4)]
    tuner, reasons = tuner_of(encoder, stages=stages, max_minutes=1e-9), []
    for _ in range(4):
        reasons.append(tuner.fit(train, output_folder=tmp_path / "parts").stop_reason_)
    assert reasons == ["max_minutes"] * 3 + [None]
    tuner_of(encoder, stages=stages).fit(train, output_folder=tmp_path / "whole")
    states = [load_state(tmp_path / name / "state" / "last.pt").modules["head"] for name in ("parts", "whole")]
    assert all(torch.equal(value, states[1][name]) for name, value in states[0].items())


@pytest.mark.slow
def test_another_run_in_the_folder_is_refused_or_deleted(encoder, small_encoder, train, tmp_path) -> None:
    tuner_of(encoder).fit(train, output_folder=tmp_path)
    with pytest.raises(InputError, match=r"of another run: .*stages.*resume=False"):
        tuner_of(encoder, stages=[FineTuneStage("head")]).fit(train, output_folder=tmp_path)
    other = small_encoder()
    with torch.no_grad():
        other.backbone.model.fc.conv.bias += 1
    with pytest.raises(InputError, match="encoder_weights"):
        tuner_of(other).fit(train, output_folder=tmp_path)
    assert len(tuner_of(other).fit(train, output_folder=tmp_path, resume=False).history_) == 6
