"""The teacher: the closed form of its average, what its BatchNorm does under each policy, and that it is no student."""

import copy

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call

from dino_speech.dino.head import DINOHead
from dino_speech.dino.teacher import Teacher, TeacherSettings, shared_parameters
from dino_speech.errors import InputError


def make_student(*, dropout: float = 0.0) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.GELU(), nn.Dropout(dropout), nn.Linear(8, 4))


def perturb(student: nn.Module) -> None:
    with torch.no_grad():
        for parameter in student.parameters():
            parameter.add_(torch.randn_like(parameter))


def test_average_has_its_closed_form() -> None:
    student = make_student()
    teacher = Teacher(student)
    start = copy.deepcopy(student.state_dict())
    perturb(student)
    for _ in range(20):
        teacher.step(student, 0.9)
    for name, parameter in student.named_parameters():
        expected = parameter + 0.9**20 * (start[name] - parameter)
        torch.testing.assert_close(teacher.module.get_parameter(name), expected, rtol=1e-5, atol=1e-6)


def test_changing_students_are_weighted_by_their_age() -> None:
    student = nn.Linear(3, 2)
    teacher = Teacher(student)
    history = [student.weight.detach().clone()]
    for _ in range(6):
        perturb(student)
        history.append(student.weight.detach().clone())
        teacher.step(student, 0.7)
    weights = [0.7**6, *(0.3 * 0.7**age for age in range(5, -1, -1))]
    expected = sum(weight * old for weight, old in zip(weights, history, strict=True))
    torch.testing.assert_close(teacher.module.weight, expected)


@pytest.mark.parametrize(("momentum", "kept"), [(1.0, True), (0.0, False)])
def test_momentum_of_one_keeps_the_teacher_and_of_zero_copies_the_student(momentum: float, kept: bool) -> None:
    student = make_student()
    teacher = Teacher(student)
    before = copy.deepcopy(teacher.module.state_dict())
    perturb(student)
    teacher.step(student, momentum)
    for name, parameter in teacher.module.named_parameters():
        assert torch.equal(parameter, before[name] if kept else student.get_parameter(name))
    with pytest.raises(InputError, match=r"momentum = 1\.01"):
        teacher.step(student, 1.01)


def test_no_gradients_reach_or_pass_the_teacher() -> None:
    student = make_student()
    teacher = Teacher(student)
    inputs = torch.randn(5, 6, requires_grad=True)
    assert not teacher(inputs).requires_grad
    assert not any(parameter.requires_grad for parameter in teacher.parameters())
    student(inputs).sum().backward()
    teacher.step(student, 0.5)
    assert all(parameter.grad is None for parameter in teacher.parameters())
    assert all(parameter.requires_grad for parameter in student.parameters())


def test_policy_train_uses_its_own_batches_and_its_own_running_statistics() -> None:
    student = make_student()
    teacher = Teacher(student, batchnorm="train")
    own = 3 + 2 * torch.randn(50, 6)
    expected = student[:2].train()(own)  # batch statistics; the student is the teacher's twin so far
    hidden = teacher.module[:2](own)
    torch.testing.assert_close(hidden, expected)
    student.train()(torch.randn(50, 6) - 10)  # the student's short crops, which the teacher never hears
    before = copy.deepcopy(teacher.module[1].state_dict())
    teacher.step(student, 0.5)
    mean = teacher.module[0](own).mean(0)
    torch.testing.assert_close(before["running_mean"], 0.1 * mean)  # BatchNorm's own momentum, one batch
    assert torch.equal(teacher.module[1].running_mean, before["running_mean"])
    assert teacher.module[1].num_batches_tracked == 1


def test_policy_ema_averages_the_students_statistics_and_ignores_the_batch() -> None:
    student = make_student()
    teacher = Teacher(student, batchnorm="ema")
    student.train()(5 + torch.randn(50, 6))
    student.train()(5 + torch.randn(50, 6))
    teacher.step(student, 0.75)
    torch.testing.assert_close(teacher.module[1].running_mean, 0.25 * student[1].running_mean)
    torch.testing.assert_close(teacher.module[1].running_var, 0.75 + 0.25 * student[1].running_var)
    assert teacher.module[1].num_batches_tracked == student[1].num_batches_tracked == 2
    inputs = torch.randn(8, 6)
    before = copy.deepcopy(teacher.module[1].state_dict())
    torch.testing.assert_close(teacher(inputs)[:2], teacher(inputs[:2]))
    assert all(torch.equal(value, teacher.module[1].state_dict()[name]) for name, value in before.items())
    train = Teacher(student, batchnorm="train")
    assert not torch.allclose(train(inputs)[:2], train(inputs[:2]))


@pytest.mark.parametrize("policy", ["train", "ema"])
def test_dropout_is_off_and_modes_survive_a_call_of_train_from_outside(policy: str) -> None:
    teacher = Teacher(make_student(dropout=0.5), batchnorm=policy)
    holder = nn.ModuleDict({"teacher": teacher})
    inputs = torch.randn(9, 6)
    for mode in (True, False, True):
        holder.train(mode)
        assert teacher.module[1].training == (mode and policy == "train")
        assert not teacher.module[3].training
        assert torch.equal(teacher(inputs), teacher(inputs))


def test_other_buffers_follow_the_student_and_integers_are_copied() -> None:
    class Counter(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("level", torch.zeros(3))
            self.register_buffer("count", torch.tensor(0))
            self.weight = nn.Parameter(torch.zeros(3))

        def forward(self, inputs: Tensor) -> Tensor:
            return inputs * self.weight

    student = Counter()
    teacher = Teacher(student)
    student.level.fill_(4.0)
    student.count.fill_(7)
    teacher.step(student, 0.5)
    assert teacher.module.level.tolist() == [2.0, 2.0, 2.0]
    assert teacher.module.count.item() == 7


def test_a_head_with_frozen_gain_is_averaged_in_its_directions() -> None:
    student = DINOHead(6, num_prototypes=20, hidden_dim=8, bottleneck_dim=4)
    teacher = Teacher(student)
    with torch.no_grad():
        student.last_layer.parametrizations.weight.original1.normal_()
    teacher.step(student, 0.5)
    torch.testing.assert_close(teacher.module.last_layer.weight.norm(dim=1), torch.ones(20))


class CopiesItself(nn.Linear):
    """A module whose author thought that copies are a waste."""

    def __deepcopy__(self, memo: dict) -> "CopiesItself":
        return self


def test_a_teacher_that_is_the_student_is_refused_by_name() -> None:
    with pytest.raises(InputError, match=r"the teacher is the student.*'1\.weight'.*2 parameters"):
        Teacher(nn.Sequential(nn.Linear(3, 3), CopiesItself(3, 3)))
    teacher = Teacher(make_student())
    with pytest.raises(InputError, match="the teacher is the student"):
        teacher.step(teacher.module, 0.9)
    student = make_student()
    student[0].weight = nn.Parameter(teacher.module[0].weight.view(8, 6))  # another name for the same memory
    assert shared_parameters(teacher.module, student) == ["0.weight"]
    with pytest.raises(InputError, match=r"share the memory of '0\.weight' \(1 parameters"):
        teacher.step(student, 0.9)


@pytest.mark.slow
def test_compiled_students_are_looked_into() -> None:
    student = make_student()
    wrapped = torch.compile(student)
    teacher = Teacher(wrapped)
    assert type(teacher.module) is nn.Sequential
    perturb(student)
    teacher.step(wrapped, 0.0)
    inputs = torch.randn(5, 6)
    expected = functional_call(teacher.module, dict(student.named_parameters()), inputs)
    assert torch.equal(teacher(inputs), expected)


def test_another_architecture_and_an_unknown_policy_are_refused() -> None:
    with pytest.raises(InputError, match="expected 'train' or 'ema'"):
        Teacher(make_student(), batchnorm="eval")
    with pytest.raises(ValueError, match="argument"):
        Teacher(make_student()).step(nn.Linear(6, 8), 0.9)


@pytest.mark.parametrize(
    ("student", "other"),
    [
        (nn.Linear(3, 3), nn.Linear(3, 3, bias=False)),
        (nn.Sequential(nn.Linear(3, 3), nn.GELU()), nn.Sequential(nn.Linear(3, 3))),
        (nn.BatchNorm1d(3), nn.BatchNorm1d(3, track_running_stats=False)),
    ],
)
def test_a_student_with_fewer_parts_is_refused(student: nn.Module, other: nn.Module) -> None:
    with pytest.raises(ValueError, match="argument"):
        Teacher(student, batchnorm="ema").step(other, 0.9)


def test_momentum_is_the_papers_and_parameters_without_a_value_share_no_memory() -> None:
    assert (TeacherSettings().momentum, TeacherSettings().momentum_end) == (0.996, 1.0)
    student = nn.ParameterList([torch.empty(0), torch.ones(2)])
    assert shared_parameters(Teacher(student).module, student) == []


def test_state_dict_restores_the_teacher() -> None:
    student = make_student()
    teacher, other = Teacher(student), Teacher(student)
    perturb(student)
    teacher.step(student, 0.5)
    other.load_state_dict(teacher.state_dict())
    inputs = torch.randn(5, 6)
    assert torch.equal(teacher.eval()(inputs), other.eval()(inputs))
