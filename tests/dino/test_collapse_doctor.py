"""Each collapse is provoked by a small training with one wrong setting; the doctor must name that one and no other."""

import logging
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from dino_speech.dino.centering import Center, sinkhorn_targets, softmax_targets
from dino_speech.dino.collapse_doctor import CollapseDoctor, diagnose, measure
from dino_speech.dino.head import DINOHead
from dino_speech.dino.loss import DINOLoss
from dino_speech.dino.objectives import CosineLoss
from dino_speech.dino.regularizers import coding_rate, koleo
from dino_speech.dino.teacher import Teacher
from dino_speech.errors import InputError

NUM_LONG, NUM_VIEWS, BATCH, DIM = 2, 4, 32, 32


@pytest.fixture(autouse=True, scope="module")
def _one_thread() -> Iterator[None]:
    """Layers this small spend their time on waking threads: on a busy machine a hundred times longer."""
    num_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(num_threads)


class Trainer:
    """DINO on vectors: an utterance is a point in 8 dimensions, its views are noisy images of it in 20."""

    def __init__(self, *, num_prototypes: int = 64, **settings: Any) -> None:
        torch.manual_seed(0)
        self.settings = {"centering": "mean", "teacher_temperature": 0.04, "momentum": 0.98, "koleo_weight": 0.0}
        self.settings |= {"lr": 3e-3, "weight_decay": 0.0, "noise": 0.5} | settings
        self.mixing = torch.randn(8, 20)
        encoder = nn.Sequential(nn.Linear(20, 64), nn.GELU(), nn.Linear(64, DIM))
        head = DINOHead(DIM, num_prototypes=num_prototypes, hidden_dim=64, bottleneck_dim=16)
        self.student = nn.Sequential(encoder, head)
        self.teacher, self.center = Teacher(self.student), Center(num_prototypes)
        self.criterion = DINOLoss(num_long=NUM_LONG)
        options = {"lr": self.settings["lr"], "weight_decay": self.settings["weight_decay"]}
        self.optimizer = torch.optim.AdamW(self.student.parameters(), **options)

    def views(self) -> Tensor:
        """(V, B, 20)."""
        noise = self.settings["noise"] * self.mixing.norm(dim=0) * torch.randn(NUM_VIEWS, BATCH, 20)
        return torch.randn(BATCH, 8) @ self.mixing + noise

    def targets(self, logits: Tensor) -> Tensor:
        temperature = self.settings["teacher_temperature"]
        if self.settings["centering"] == "sinkhorn":
            return sinkhorn_targets(logits, temperature)
        return softmax_targets(logits, self.center.value if self.settings["centering"] == "mean" else None, temperature)

    def step(self, views: Tensor) -> dict[str, Any]:
        """One optimizer step; what the doctor wants to see."""
        with torch.no_grad():
            teacher_embedding = self.teacher.module[0](views[:NUM_LONG])
            teacher_logits = self.teacher.module[1](teacher_embedding)
            targets = self.targets(teacher_logits)
        embedding = self.student[0](views)
        loss = self.criterion(self.student[1](embedding), targets)
        self.optimizer.zero_grad()
        (loss + self.settings["koleo_weight"] * koleo(embedding[:NUM_LONG])).backward()
        self.optimizer.step()
        self.teacher.step(self.student, self.settings["momentum"])
        self.center.accumulate(teacher_logits)
        self.center.step()
        seen = {"loss": loss.detach(), "targets": targets, "embeddings": teacher_embedding}
        return seen | {"center": self.center.value, "teacher": self.teacher, "student": self.student}

    def run(self, doctor: CollapseDoctor, num_steps: int) -> list[str]:
        """Names of what the doctor, who looks at every tenth step, found at the end."""
        for step in range(1, num_steps + 1):
            seen = self.step(self.views())
            if step % 10 == 0:
                doctor.examine(step, **seen)
        return [finding.name for finding in doctor.findings]


class ComparingPoints(Trainer):
    """SimDINO on the same vectors."""

    def step(self, views: Tensor) -> dict[str, Any]:
        with torch.no_grad():
            embeddings = self.teacher.module[0](views[:NUM_LONG])
            targets = self.teacher.module[1].bottleneck(embeddings)
        points = self.student[1].bottleneck(self.student[0](views))
        loss = CosineLoss(num_long=NUM_LONG)(points, targets)
        self.optimizer.zero_grad()
        (loss + self.settings["coding_rate_weight"] * coding_rate(points[:NUM_LONG], 0.5)).backward()
        self.optimizer.step()
        self.teacher.step(self.student, self.settings["momentum"])
        return {"loss": loss.detach(), "targets": None, "embeddings": embeddings, "points": targets}


def found_after(num_steps: int, **settings: Any) -> tuple[list[str], dict[str, float]]:
    doctor = CollapseDoctor(patience=3)
    return Trainer(**settings).run(doctor, num_steps), doctor.figures


@pytest.mark.slow
@pytest.mark.parametrize("settings", [{}, {"centering": "sinkhorn", "koleo_weight": 0.1}])
def test_a_healthy_run_is_left_in_peace(settings: dict[str, Any]) -> None:
    names, figures = found_after(100, **settings)
    assert names == []
    assert figures["target_information"] > 0.1
    assert figures["rank_me"] > 10


@pytest.mark.parametrize("centering", ["mean", "none", "sinkhorn"])
def test_a_teacher_that_is_not_sharpened_becomes_uniform(centering: str) -> None:
    names, figures = found_after(80, teacher_temperature=1.0, centering=centering)
    assert names == ["uniform teacher"]
    assert figures["loss_fraction"] == pytest.approx(1.0, abs=0.02)  # the loss at ln K
    assert figures["teacher_entropy"] > 0.98


@pytest.mark.slow
def test_without_centering_all_fall_onto_one_prototype() -> None:
    names, figures = found_after(80, centering="none")
    assert names == ["one-hot teacher"]
    assert figures["loss_fraction"] < 0.1  # a loss near 0 that a person might take for success
    assert figures["prototypes_used"] < 2


def test_too_large_steps_give_all_utterances_the_same_target() -> None:
    names, figures = found_after(80, lr=0.1)
    assert names == ["identical targets"]
    assert 0.1 < figures["teacher_entropy"] < 0.95


@pytest.mark.slow
def test_two_prototypes_and_strong_decay_leave_few_dimensions_which_koleo_gives_back() -> None:
    settings = {"num_prototypes": 2, "lr": 1e-2, "weight_decay": 2.0, "noise": 0.1, "momentum": 0.95}
    names, figures = found_after(200, **settings)
    assert names == ["dimensional collapse"]
    assert figures["target_information"] > 0.1  # the targets still tell utterances apart
    names, cured = found_after(200, **settings, koleo_weight=0.1)
    assert names == []
    assert cured["rank_me"] > 2 * figures["rank_me"]


@pytest.mark.parametrize(("weight", "expected"), [(0.0, ["identical points"]), (1.0, [])])
def test_points_that_are_only_compared_become_one_and_the_coding_rate_keeps_them_apart(
    weight: float, expected: list[str]
) -> None:
    doctor = CollapseDoctor(patience=3)
    assert ComparingPoints(coding_rate_weight=weight, lr=2e-2).run(doctor, 80) == expected
    assert (doctor.figures["points_spread"] > 0.3) == (weight > 0)
    assert doctor.figures["rank_me"] > 5, "the embeddings alone would not show it"


def test_a_momentum_of_zero_makes_the_teacher_the_student() -> None:
    names, figures = found_after(40, momentum=0.0)
    assert names[0] == "teacher is the student"
    assert figures["teacher_gap"] == 0.0


def test_shared_memory_is_named_at_once() -> None:
    trainer = Trainer()
    seen = trainer.step(trainer.views())
    seen["teacher"] = seen["student"]  # what `teacher = student` in a script of one's own comes to
    (finding,) = CollapseDoctor(patience=1).examine(1, **seen)
    assert finding.name == "teacher is the student"
    assert "same memory" in finding.seen
    assert "Teacher(student)" in finding.knob


def test_a_frozen_student_is_noticed_too() -> None:
    assert found_after(30, lr=0.0)[0] == ["teacher is the student"]


def test_findings_are_logged_once_with_cause_and_knob(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, logger="dino_speech"):
        found_after(80, centering="none")
    warnings = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert len(warnings) == 1
    for part in ("one-hot teacher", "Likely cause: the center", "Try: center_momentum"):
        assert part in warnings[0]


def test_grace_and_patience_hold_the_verdict_back() -> None:
    trainer = Trainer(centering="none")
    doctor = CollapseDoctor(patience=2, grace_steps=60)
    assert trainer.run(doctor, 60) == []
    assert doctor.figures["prototypes_used"] < 2  # collapsed already, but within the grace
    seen = trainer.step(trainer.views())
    assert doctor.examine(70, **seen) == []  # the first of two measurements
    assert [finding.name for finding in doctor.examine(80, **seen)] == ["one-hot teacher"]


def test_a_recovery_is_logged_and_clears_the_finding(caplog: pytest.LogCaptureFixture) -> None:
    trainer, doctor = Trainer(), CollapseDoctor(patience=1)
    seen = trainer.step(trainer.views())
    flat = seen | {"targets": torch.full_like(seen["targets"], 1 / 64)}
    assert len(doctor.examine(50, **flat)) == 1
    with caplog.at_level(logging.INFO, logger="dino_speech"):
        assert doctor.examine(100, **seen) == []
    assert "no longer found: uniform teacher" in caplog.text


def test_a_point_with_informative_targets_is_a_dimensional_collapse() -> None:
    figures = measure(loss=2.0, targets=torch.eye(16)[None], embeddings=10 + 0.1 * torch.randn(16, 64))
    assert [finding.name for finding in diagnose([figures])] == ["dimensional collapse"]
    assert diagnose([]) == []


def test_unusable_options_are_refused() -> None:
    with pytest.raises(InputError, match="patience = 0"):
        CollapseDoctor(patience=0)
