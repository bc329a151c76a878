"""The loss against a double loop over views written from the paper's Algorithm 1: value, gradients, memory kept."""

import copy
import math

import pytest
import torch
from torch import Tensor, nn

from dino_speech.dino.loss import DINOLoss
from dino_speech.dino.objectives import OBJECTIVES, CosineLoss, register_objective
from dino_speech.errors import InputError


def loop_loss(student_logits: Tensor, targets: Tensor, temperature: float) -> Tensor:
    """Every pair of different views by itself, with its own softmax."""
    terms = []
    for number, target in enumerate(targets):
        for other, logits in enumerate(student_logits):
            if number != other:
                probability = torch.softmax(logits / temperature, dim=-1)
                terms.append(-(target * probability.log()).sum(dim=-1).mean())
    return torch.stack(terms).mean()


def draw(num_views: int, num_long: int, batch: int = 3, k: int = 50, *, seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    student = torch.rand(num_views, batch, k, generator=generator) * 2 - 1
    targets = torch.softmax(torch.randn(num_long, batch, k, generator=generator) * 3, dim=-1)
    return student, targets


@pytest.mark.parametrize(("num_long", "num_views"), [(2, 6), (2, 2), (1, 5), (3, 5), (2, 8)])
@pytest.mark.parametrize("temperature", [0.1, 0.5])
def test_loss_and_gradients_equal_the_double_loop(num_long: int, num_views: int, temperature: float) -> None:
    student, targets = draw(num_views, num_long)
    ours, loop = student.clone().requires_grad_(), student.clone().requires_grad_()
    loss = DINOLoss(num_long=num_long, student_temperature=temperature)(ours, targets)
    expected = loop_loss(loop, targets, temperature)
    loss.backward()
    expected.backward()
    torch.testing.assert_close(loss, expected, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(ours.grad, loop.grad, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("k", [1, 7, 1023, 2048, 5000])
def test_prototypes_in_any_number_equal_the_loop(k: int) -> None:
    student, targets = draw(4, 2, k=k)
    torch.testing.assert_close(DINOLoss()(student, targets), loop_loss(student, targets, 0.1), rtol=1e-5, atol=1e-5)


def test_weights_after_three_steps_equal_those_of_the_double_loop() -> None:
    torch.manual_seed(0)
    first = nn.Linear(10, 50)
    second = copy.deepcopy(first)
    criterion = DINOLoss(num_long=2)
    losses = {first: criterion, second: lambda logits, targets: loop_loss(logits, targets, 0.1)}
    for module, loss in losses.items():
        optimizer = torch.optim.SGD(module.parameters(), lr=0.1, momentum=0.9)
        for step in range(3):
            inputs = torch.randn(6, 4, 10, generator=torch.Generator().manual_seed(step))
            targets = draw(6, 2, batch=4, seed=step)[1]
            optimizer.zero_grad()
            loss(module(inputs), targets).backward()
            optimizer.step()
    torch.testing.assert_close(first.weight, second.weight, rtol=1e-5, atol=1e-6)


def test_by_hand_on_two_views_and_two_prototypes() -> None:
    student = torch.tensor([[[1.0, 0.0]], [[0.0, 0.0]]])
    targets = torch.tensor([[[0.75, 0.25]], [[0.0, 1.0]]])
    # The first target meets the second view, which is uniform: ln 2. The second meets softmax(1, 0) at entry 1.
    expected = (math.log(2) + math.log(1 + math.e)) / 2
    assert DINOLoss(num_long=2, student_temperature=1.0)(student, targets).item() == pytest.approx(expected, abs=1e-6)


def test_uniform_student_and_targets_give_ln_k() -> None:
    """The plateau that users know: 11.0904 for K = 65,536.

    Equal summands are the worst case for float32 sums, whose order differs by processor.
    """
    loss = DINOLoss()(torch.zeros(6, 4, 65_536), torch.full((2, 4, 65_536), 1 / 65_536))
    assert loss.item() == pytest.approx(math.log(65_536), abs=1e-4)


def test_a_view_does_not_meet_itself() -> None:
    student, targets = draw(2, 2)
    student.requires_grad_()
    other = targets.clone()
    other[1] = other[1].roll(1, dims=-1)
    gradients = [torch.autograd.grad(DINOLoss()(student, target), student)[0] for target in (targets, other)]
    assert torch.equal(gradients[0][1], gradients[1][1])  # the second view is judged by the first target alone
    assert not torch.equal(gradients[0][0], gradients[1][0])


def test_gradient_is_that_of_finite_differences() -> None:
    student, targets = draw(4, 2, batch=2, k=7)
    criterion = DINOLoss()
    assert torch.autograd.gradcheck(
        lambda logits: criterion(logits, targets.double()), student.double().requires_grad_()
    )


@pytest.mark.parametrize("num_views", [6, 8])
def test_at_most_one_and_a_half_times_the_student_logits_are_kept_for_backward(num_views: int) -> None:
    student, targets = draw(num_views, 2, batch=8, k=4096)
    student.requires_grad_()
    kept: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        DINOLoss()(student, targets)
    assert sum(kept.values()) <= 1.5 * student.nbytes


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_float32_inside_autocast(dtype: torch.dtype) -> None:
    student, targets = draw(6, 2, k=4096)
    student = student.to(dtype)
    expected = DINOLoss()(student.float(), targets)
    with torch.autocast("cpu", dtype=dtype):
        loss = DINOLoss()(student, targets)
    assert loss.dtype == torch.float32
    assert torch.equal(loss, expected)


def test_the_loss_has_no_state_and_the_targets_no_gradient() -> None:
    student, targets = draw(6, 2)
    criterion = DINOLoss()
    assert not list(criterion.state_dict())
    targets.requires_grad_()
    student.requires_grad_()
    first, again = criterion(student, targets), criterion(student, targets)
    first.backward()
    assert targets.grad is None
    assert torch.equal(first, again)


@pytest.mark.parametrize(
    ("student", "targets", "message"),
    [
        ((6, 3, 5), (3, 3, 5), "num_long = 2"),
        ((1, 3, 5), (2, 3, 5), "num_long = 2"),
        ((6, 3, 5), (2, 3, 4), "expected"),
        ((6, 5), (2, 5), "expected"),
    ],
)
def test_shapes_that_do_not_fit_are_refused(student: tuple, targets: tuple, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        DINOLoss()(torch.zeros(student), torch.zeros(targets))


def test_one_view_alone_and_bad_options_are_refused() -> None:
    with pytest.raises(ValueError, match="add a long or a short view"):
        DINOLoss(num_long=1)(torch.zeros(1, 2, 5), torch.zeros(1, 2, 5))
    with pytest.raises(InputError, match="num_long = -1"):
        DINOLoss(num_long=-1)
    with pytest.raises(InputError, match=r"student_temperature = 0\.0"):
        DINOLoss(student_temperature=0.0)


def test_with_no_view_in_common_all_pairs_count() -> None:
    student, targets = draw(4, 2)
    probabilities = [torch.softmax(logits / 0.1, dim=-1) for logits in student]
    expected = torch.stack([-(t * p.log()).sum(-1).mean() for t in targets for p in probabilities]).mean()
    torch.testing.assert_close(DINOLoss(num_long=0)(student, targets), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("num_long", [2, 0])
def test_cosine_loss_is_half_the_squared_distance_of_different_views(num_long: int) -> None:
    generator = torch.Generator().manual_seed(0)
    rows = torch.nn.functional.normalize(torch.randn(6, 3, 5, generator=generator, dtype=torch.float64), dim=-1)
    student, teacher = rows[:4].clone().requires_grad_(), rows[4:].clone().requires_grad_()
    pairs = [(t, v) for t in range(2) for v in range(4) if num_long == 0 or t != v]
    expected = sum((student[v] - teacher[t]).square().sum(-1).mean() / 2 for t, v in pairs) / len(pairs)
    found = CosineLoss(num_long=num_long)(student, teacher)
    assert found.item() == pytest.approx(expected.item(), rel=1e-12)
    found.backward()
    assert teacher.grad is None
    with pytest.raises(ValueError, match="num_long = 1"):
        CosineLoss(num_long=1)(student, teacher)


def test_an_objective_that_is_registered_stays_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    class Own(DINOLoss):
        pass

    monkeypatch.setattr(OBJECTIVES, "known", dict(OBJECTIVES.known))
    assert register_objective("own")(Own) is Own is OBJECTIVES["own"]
