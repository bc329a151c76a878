"""Encoder and head as one module: what the student and the teacher each are.

Letters: `B` utterances, `V` views, `T` frames, `F` bands, `D` embedding, `K` prototypes.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from dino_speech.dino.head import DINOHead
from dino_speech.models.encoder import SpeechEncoder


class Network(nn.Module):
    """An encoder with its head, over views of several lengths.

    Args:
        encoder: frames -> (N, D).
        head: (N, D) -> (N, K).
    """

    encoder: SpeechEncoder
    head: DINOHead

    def __init__(self, encoder: SpeechEncoder, head: DINOHead) -> None:
        super().__init__()
        self.encoder = encoder
        self.head = head

    def forward(self, views: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """Embed and project; one pass of the encoder per length of view, one pass of the head over all views.

        Args:
            views: frames (V*B, T, F), one entry per length of view.

        Returns:
            embedding (V*B, D) and logits (V*B, K), in the order of `views`.
        """
        embedding = torch.cat([self.encoder.embed_frames(frames, None) for frames in views])
        return embedding, self.head(embedding)
