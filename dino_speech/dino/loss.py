"""The DINO loss: cross-entropy between the teacher's targets and the student's other views.

It returns a value and changes nothing: the center (`centering.py`, which makes the targets) and the teacher
(`teacher.py`) move once per optimizer step, beside `optimizer.step()`.

Letters: `L` long views, `V` all views (the long ones first), `B` utterances, `K` prototypes.
"""

import math

import torch
from torch import Tensor, nn

from dino_speech.errors import InputError

# Prototypes summed within one product; the sums of the blocks are added up afterwards, which is as exact as pairwise
# summation and no slower. All 65,536 in one float32 product lose the fourth digit where the summands are equal.
_BLOCK = 1024


class DINOLoss(nn.Module):
    """Mean cross-entropy over all pairs of a teacher's view and another view of the student.

    Args:
        num_long: L, how many views the teacher sees; they are the first of the student's views. 0: the student sees
            none of the teacher's, and all pairs count.
        student_temperature: divides the student's logits; above 0.
        teacher_temperature: that the targets were made with; below the student's, or nothing sharpens them and the
            teacher tends to the uniform one. Here for objectives of one's own.

    Raises:
        InputError: `num_long` below 0 or a temperature that is not positive.

    Example:
        >>> criterion = DINOLoss(num_long=2)
        >>> student_logits, teacher_logits = torch.randn(6, 8, 1024), torch.randn(2, 8, 1024)
        >>> loss = criterion(student_logits, torch.softmax(teacher_logits / 0.04, -1))

    Source: arXiv 2104.14294, Eq. 3 and Algorithm 1; temperatures of the speech configuration of arXiv 2208.05445. All
        pairs in one einsum, so that autograd keeps one log-softmax and the targets: (V + L) / V times the student's
        logits, 1.33 for 2 + 4 views, where a loop over the pairs keeps 2 or more.
    """

    def __init__(
        self, *, num_long: int = 2, student_temperature: float = 0.1, teacher_temperature: float = 0.04
    ) -> None:
        super().__init__()
        if num_long < 0:
            raise InputError(f"DINOLoss: num_long = {num_long}; expected 0 or more, the views that both hear")
        for name, value in (("student", student_temperature), ("teacher", teacher_temperature)):
            if not value > 0:
                raise InputError(f"DINOLoss: {name}_temperature = {value}; expected a number above 0")
        self.num_long = num_long
        self.student_temperature = student_temperature

    def forward(self, student_logits: Tensor, targets: Tensor) -> Tensor:
        """The loss, in at least float32 also inside autocast.

        Args:
            student_logits: (V, B, K), long views first.
            targets: (L, B, K), rows that sum to 1, without gradient.

        Returns:
            0-d tensor; between the targets' entropy (then student and teacher agree) and far above ln K.

        Raises:
            ValueError: shapes that do not fit each other, or no pair of different views.
        """
        num_pairs = count_pairs(student_logits, targets, self.num_long)
        with torch.autocast(student_logits.device.type, enabled=False):
            # Half-precision logits become float32; float64 stays.
            logits = student_logits.to(torch.promote_types(student_logits.dtype, torch.float32))
            log_student = torch.log_softmax(logits / self.student_temperature, dim=-1)
            # l long, v views, b batch, c blocks of k prototypes
            blocks = (math.gcd(logits.shape[-1], max(1, logits.shape[-1] // _BLOCK)), -1)
            teacher = targets.detach().to(log_student.dtype).unflatten(-1, blocks)
            pairs = torch.einsum("lbck,vbck->bclv", teacher, log_student.unflatten(-1, blocks)).sum(1).mean(0)
            # The diagonal holds each long view against itself.
            return (pairs.diagonal()[: self.num_long].sum() - pairs.sum()) / num_pairs


def count_pairs(student: Tensor, teacher: Tensor, num_long: int) -> int:
    """Pairs of different views of (V, B, ...) and (L, B, ...), whose first `num_long` are the same.

    Raises:
        ValueError: the shapes do not fit each other, or there is no pair.
    """
    given = f"student_logits {tuple(student.shape)}, targets {tuple(teacher.shape)}"
    if student.ndim != 3 or teacher.ndim != 3 or student.shape[1:] != teacher.shape[1:]:
        raise ValueError(f"DINOLoss: expected (V, B, K) and (L, B, K), got {given}")
    num_views, num_targets = len(student), len(teacher)
    if num_views < num_long or num_long not in (0, num_targets):
        raise ValueError(f"DINOLoss: num_long = {num_long} does not fit {given}")
    num_pairs = num_targets * num_views - num_long
    if num_pairs == 0:
        raise ValueError("DINOLoss: one view alone has no other view to agree with; add a long or a short view")
    return num_pairs
