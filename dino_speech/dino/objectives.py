"""What a student can be asked to achieve beside its teacher, by name: DINO's loss, SimDINO's, and those of one's own.

Letters: `L` long views, `V` all views of the student, `B` utterances, `P` dimensions of the head's points.
"""

from collections.abc import Callable
from typing import TypeVar

import torch
from torch import Tensor, nn

from dino_speech.dino.centering import full_precision
from dino_speech.dino.loss import DINOLoss, count_pairs
from dino_speech.registry import Registry


class CosineLoss(nn.Module):
    """1 - cosine, mean over all pairs of a teacher's view and another view of the student: half their squared distance.

    It compares the heads' points and no prototypes, so nothing is centred nor sharpened, and nothing keeps all points
    from being one but a regulariser: use it beside `coding_rate`.

    Args:
        num_long: as in `DINOLoss`.
        student_temperature, teacher_temperature: not used; here because objectives are built alike.

    Source: SimDINO, arXiv 2502.10385.
    """

    def __init__(
        self, *, num_long: int = 2, student_temperature: float = 0.1, teacher_temperature: float = 0.04
    ) -> None:
        super().__init__()
        self.num_long = num_long

    def forward(self, student: Tensor, teacher: Tensor) -> Tensor:
        """(V, B, P) and (L, B, P), of unit length -> 0-d, from 0, where all agree, to 2, in at least float32.

        Raises:
            ValueError: as `DINOLoss`.
        """
        num_pairs = count_pairs(student, teacher, self.num_long)
        with torch.autocast(student.device.type, enabled=False):
            # l long, v views, b batch, p dimensions of the points
            cosines = torch.einsum("lbp,vbp->lvb", full_precision(teacher.detach()), full_precision(student)).mean(-1)
            return 1 - (cosines.sum() - cosines.diagonal()[: self.num_long].sum()) / num_pairs


Objective = TypeVar("Objective", bound=Callable[..., nn.Module])
OBJECTIVES: Registry[Callable[..., nn.Module]] = Registry("objective", {"dino": DINOLoss, "cosine": CosineLoss})


def register_objective(name: str) -> Callable[[Objective], Objective]:
    """Make an objective of one's own known under a name, as `objective.loss` of a pretraining: a decorator.

    The page "Add your own" has an example. It is built and called as `DINOLoss` is; it must change no state.
    """

    def register(objective: Objective) -> Objective:
        OBJECTIVES.register(name, objective)
        return objective

    return register
