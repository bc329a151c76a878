"""Mirroring at each utterance's own end, and what counts as equal lengths."""

import pytest
import torch
import torch.nn.functional as F

from dino_speech.errors import InputError
from dino_speech.models.backbones.pooling import same_length
from dino_speech.models.backbones.time_delay import mirror_pad


@pytest.mark.parametrize("reach", [0, 1, 2, 4])
def test_mirror_equals_torch_reflection(reach: int) -> None:
    x = torch.randn(4, 9, 3)
    lengths = torch.tensor([9, 8, 6, 5])
    padded = mirror_pad(x, reach, lengths)
    for row, utterance, length in zip(padded, x, lengths, strict=True):
        expected = F.pad(utterance[:length].T, (reach, reach), mode="reflect").T
        assert torch.equal(row[: length + 2 * reach], expected)
    assert torch.equal(mirror_pad(x, reach), F.pad(x.transpose(1, 2), (reach, reach), mode="reflect").transpose(1, 2))


def test_mirror_has_the_right_gradient() -> None:
    x = torch.randn(2, 6, 2, dtype=torch.double, requires_grad=True)
    assert torch.autograd.gradcheck(lambda v: mirror_pad(v, 2), x)
    assert torch.autograd.gradcheck(lambda v: mirror_pad(v, 2, torch.tensor([6, 4])), x)


def test_lengths_that_fill_the_batch_need_no_mask() -> None:
    frames = torch.zeros(2, 7, 3)
    assert same_length(frames, None) is None
    assert same_length(frames, torch.tensor([7, 7])) is None
    ragged = torch.tensor([7, 6])
    assert same_length(frames, ragged) is ragged


def test_impossible_lengths_are_refused() -> None:
    frames = torch.zeros(2, 7, 3)
    with pytest.raises(InputError, match="4 frames is too short; this network needs at least 5"):
        same_length(frames, torch.tensor([7, 4]), min_frames=5)
    with pytest.raises(InputError, match="7 frames is too short"):
        same_length(frames, None, min_frames=8)
    with pytest.raises(InputError, match="up to 8, but the batch has 7"):
        same_length(frames, torch.tensor([8, 7]))
