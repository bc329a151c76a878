"""One layer or several together: the best one, the last one, their mean, and a sum whose weights are learnt.

Which layer is best, and with which weights layers are summed, is decided inside each training part; a figure that had
chosen its layer on the test speakers would flatter it. Letters: `N` utterances, `L` layers, `D` their common width.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn.functional import cross_entropy, mse_loss

from dino_speech.data.folds import Fold
from dino_speech.evaluation.one_thread import one_thread
from dino_speech.evaluation.probing.probes import LogisticProbe, RidgeProbe, inner_folds, standardiser
from dino_speech.intervals import CORRELATION, SHARE, Interval, bootstrap_interval
from dino_speech.metrics import ccc, uar
from dino_speech.plain_data import PlainData

Loss = Callable[[torch.Tensor], torch.Tensor]
MIXTURES = ("best layer", "last layer", "mean of layers", "weighted sum")
PLAIN_STRENGTHS = {True: 1e-2, False: 1e-1}  # of classes, of numbers; ours: the middle ones, to compare layers with
NOT_LAYERS = ("pooled", "embedding")  # made of the layers, and not beside them
NUM_STEPS, LR = 200, 0.05  # ours: of the learnt sum


@dataclass(frozen=True, eq=False)
class Mixture(PlainData):
    """What a choice or a sum of layers is worth.

    Args:
        name: one of `MIXTURES`.
        value: UAR or CCC; `interval`: 95 %, resampling speakers.
        gain: value less that of the last layer, on the same folds; one whose `gain_interval` holds 0 is not shown.
        predicted: (N,) by probes that had not heard the speaker.
        chosen: the layer that each fold chose, for "best layer".
        weights: mean over folds of each layer's share, for "weighted sum".
    """

    name: str
    value: float
    interval: Interval
    gain: float
    gain_interval: Interval
    predicted: NDArray = field(repr=False)
    chosen: list[str] = field(default_factory=list)
    weights: dict[str, float] = field(default_factory=dict)


class Target:
    """What is predicted: classes (N,) by logistic regression, judged by UAR; or numbers by ridge regression, by CCC."""

    def __init__(self, values: NDArray, speakers: NDArray, seed: int) -> None:
        self.values, self.speakers, self.seed = values, speakers, seed
        self.of_classes = values.dtype.kind in "US"

    def predict(self, x: NDArray, unseen: NDArray, rows: NDArray, *, plain: bool = False) -> NDArray:
        """Fit a probe on features x of the utterances `rows`, and predict the unseen ones; `plain`: one strength."""
        options: dict[str, Any] = {"strengths": [PLAIN_STRENGTHS[self.of_classes]]} if plain else {}
        known = self.values[rows]
        if self.of_classes:
            return LogisticProbe(seed=self.seed, **options).fit(x, known, self.speakers[rows]).predict(unseen)
        return RidgeProbe(seed=self.seed, **options).fit(x, known[:, None], self.speakers[rows]).predict(unseen)[:, 0]

    def merit(self, true: NDArray, predicted: NDArray, weights: NDArray | None = None) -> float:
        """UAR or CCC."""
        return (uar if self.of_classes else ccc)(true, predicted, weights=weights)

    def inner_folds(self, train: NDArray) -> list[Fold]:
        """Speaker-disjoint folds of a training part, as positions of the whole; none where there is one speaker."""
        classes = self.values[train] if self.of_classes else None
        found = inner_folds(self.speakers[train], seed=self.seed, classes=classes)
        return [(train[learn], train[judge]) for learn, judge in found]

    def losses(self, *parts: NDArray) -> tuple[int, list[Loss]]:
        """How many outputs a linear layer needs, and its loss on the utterances of each part.

        Cross-entropy in which all classes of the first part weigh the same, or the squared error of numbers
        standardised by it.
        """
        known = self.values[parts[0]]
        if not self.of_classes:
            standard = (self.values - known.mean()) / max(float(known.std()), 1e-12)
            targets = [torch.tensor(standard[rows, None], dtype=torch.float32) for rows in parts]
            return 1, [partial(mse_loss, target=target) for target in targets]
        names = np.unique(self.values[np.concatenate(parts)])
        weight = torch.tensor([1 / max(1, int((known == name).sum())) for name in names])
        targets = [torch.from_numpy(np.searchsorted(names, self.values[rows])) for rows in parts]
        return len(names), [partial(cross_entropy, target=target, weight=weight) for target in targets]


def layers_of_one_width(widths: Mapping[str, int]) -> list[str]:
    """The layers that can be added up: the most numerous of one width, in their order; of equals the deeper ones."""
    own = {name: width for name, width in widths.items() if name not in NOT_LAYERS and name != "conv"}
    if not own:
        return []
    found = list(own.values())
    best = max(reversed(list(dict.fromkeys(found))), key=found.count)
    return [name for name, width in own.items() if width == best]


def compare_mixtures(
    layers: Mapping[str, NDArray],
    target: Target,
    speakers: NDArray,
    folds: Sequence[Fold],
    *,
    num_resamples: int = 1000,
    seed: int = 0,
) -> list[Mixture]:
    """Best layer, last layer, mean and weighted sum of layers (N, D), first to last, on the same folds of speakers."""
    names, stack = list(layers), np.stack(list(layers.values())).astype(np.float32)  # (L, N, D)
    predicted = {name: np.empty_like(target.values) for name in MIXTURES}
    chosen, shares = [], []
    for train, test in folds:
        best = _best_layer(stack, target, train)
        share, scaled = _learn_weights(stack, target, train)
        # l layers, n utterances, d width
        mixed = stack[best], stack[-1], stack.mean(axis=0), np.einsum("l,lnd->nd", share, scaled)
        for name, x in zip(MIXTURES, mixed, strict=True):
            predicted[name][test] = target.predict(x[train], x[test], train)
        chosen.append(names[best])
        shares.append(share)
    weights = dict(zip(names, np.mean(shares, axis=0).tolist(), strict=True))
    details: dict[str, dict[str, Any]] = {MIXTURES[0]: {"chosen": chosen}, MIXTURES[3]: {"weights": weights}}
    return [
        Mixture(
            name,
            **_judge(target, found, predicted[MIXTURES[1]], speakers, num_resamples, seed),
            predicted=found,
            **details.get(name, {}),
        )
        for name, found in predicted.items()
    ]


def _judge(
    target: Target, predicted: NDArray, last: NDArray, speakers: NDArray, num_resamples: int, seed: int
) -> dict[str, Any]:
    """Value and gain over the last layer, with intervals from the same draws of speakers."""
    true = target.values

    def gain(weights: NDArray | None = None) -> float:
        return target.merit(true, predicted, weights) - target.merit(true, last, weights)

    options: dict[str, Any] = {"num_resamples": num_resamples, "seed": seed}
    return {
        "value": target.merit(true, predicted),
        "interval": bootstrap_interval(
            lambda w: target.merit(true, predicted, w),
            speakers,
            bounds=SHARE if target.of_classes else CORRELATION,
            **options,
        ),
        "gain": gain(),
        "gain_interval": bootstrap_interval(gain, speakers, **options),
    }


def _best_layer(stack: NDArray, target: Target, train: NDArray) -> int:
    """Position of the layer whose plain probe does best on speakers held out of the training part."""
    inner = target.inner_folds(train)
    if not inner:
        return len(stack) - 1
    true = np.concatenate([target.values[test] for _, test in inner])
    merits = [
        target.merit(true, np.concatenate([target.predict(x[a], x[b], a, plain=True) for a, b in inner])) for x in stack
    ]
    return int(np.argmax(merits))


def _learn_weights(stack: NDArray, target: Target, train: NDArray) -> tuple[NDArray, NDArray]:
    """Softmax shares (L,) learnt with a linear layer, and the layers standardised by the training part.

    Of all steps the one is kept after which speakers held out of the training part are predicted best: layers differ
    less than a linear layer can learn by heart. The first step has equal shares.
    """
    with one_thread():
        scaled = np.stack([standardiser(x[train]).transform(x) for x in stack]).astype(np.float32)
    learn, judge = next(iter(target.inner_folds(train)), (train, train))
    num_outputs, losses = target.losses(learn, judge)
    inputs, unseen = torch.from_numpy(scaled[:, learn]), torch.from_numpy(scaled[:, judge])
    linear = torch.zeros(inputs.shape[2], num_outputs, requires_grad=True)
    offset = torch.zeros(num_outputs, requires_grad=True)
    logits = torch.zeros(len(stack), requires_grad=True)
    optimizer = torch.optim.Adam([linear, offset, logits], lr=LR)

    def loss(layers: torch.Tensor, of: Callable[[torch.Tensor], torch.Tensor]) -> torch.Tensor:
        mixed = torch.einsum("l,lnd->nd", logits.softmax(0), layers)  # l layers, n utterances, d width
        return of(mixed @ linear / inputs.shape[2] ** 0.5 + offset)

    best, shares = float("inf"), logits.detach().softmax(0)
    for _ in range(NUM_STEPS):
        with torch.no_grad():
            held_out = float(loss(unseen, losses[1]))
        if held_out < best:
            best, shares = held_out, logits.detach().softmax(0)
        linear.grad, offset.grad, logits.grad = torch.autograd.grad(loss(inputs, losses[0]), [linear, offset, logits])
        optimizer.step()
    return shares.numpy(), scaled
