"""Loss, center, teacher and optimizer together: N micro-batches give what one batch gives."""

import pytest
import torch
from torch import Tensor, nn

from dino_speech.dino.centering import Center, softmax_targets
from dino_speech.dino.head import DINOHead
from dino_speech.dino.loss import DINOLoss
from dino_speech.dino.teacher import Teacher
from dino_speech.training.schedules import cosine

NUM_STEPS, NUM_LONG, NUM_VIEWS, BATCH, K = 3, 2, 6, 12, 32


def train(num_micro_batches: int) -> dict[str, Tensor]:
    """Three optimizer steps on frames of twelve utterances; all state at the end."""
    torch.manual_seed(0)
    encoder = nn.Sequential(nn.Conv1d(10, 16, 5), nn.GELU(), nn.AdaptiveAvgPool1d(1), nn.Flatten(), nn.Linear(16, 8))
    student = nn.Sequential(encoder, DINOHead(8, num_prototypes=K, hidden_dim=16, bottleneck_dim=8))
    teacher, center = Teacher(student), Center(K)
    criterion = DINOLoss(num_long=NUM_LONG)
    optimizer = torch.optim.SGD(student.parameters(), lr=0.5, momentum=0.9)
    for step in range(NUM_STEPS):
        frames = torch.randn(NUM_VIEWS, BATCH, 10, 30, generator=torch.Generator().manual_seed(step))
        optimizer.zero_grad()
        for views in frames.chunk(num_micro_batches, dim=1):
            teacher_logits = teacher(views[:NUM_LONG].flatten(0, 1)).unflatten(0, (NUM_LONG, -1))
            logits = student(views.flatten(0, 1)).unflatten(0, (NUM_VIEWS, -1))
            (criterion(logits, softmax_targets(teacher_logits, center.value, 0.04)) / num_micro_batches).backward()
            center.accumulate(teacher_logits)
        optimizer.step()
        teacher.step(student, cosine(step, NUM_STEPS, 0.9, 1.0))
        center.step()
    state = {"center": center.value}
    for name, module in (("student", student), ("teacher", teacher)):
        state |= {f"{name}.{key}": value for key, value in module.state_dict().items()}
    return state


@pytest.mark.parametrize("num_micro_batches", [2, 4])
def test_micro_batches_equal_one_batch_in_student_teacher_and_center(num_micro_batches: int) -> None:
    whole, parts = train(1), train(num_micro_batches)
    assert whole["center"].norm() > 0.1
    moved = (whole["student.0.0.weight"] - train_nothing()["student.0.0.weight"]).abs().max()
    assert moved > 1e-3
    for name, value in whole.items():
        torch.testing.assert_close(
            parts[name], value, rtol=1e-5, atol=1e-5, msg=lambda text, name=name: f"{name}: {text}"
        )


def train_nothing() -> dict[str, Tensor]:
    torch.manual_seed(0)
    return {"student.0.0.weight": nn.Conv1d(10, 16, 5).weight.detach()}
