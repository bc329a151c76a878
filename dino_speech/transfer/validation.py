"""How a system is judged after each epoch: by UAR for classes, mean CCC for dimensions, EER for unknown speakers."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from dino_speech.data.seeds import derive_seed
from dino_speech.data.utterances import Manifest
from dino_speech.errors import InputError
from dino_speech.metrics import accuracy, ccc, eer, uar
from dino_speech.transfer.heads import MARGIN_OBJECTIVES
from dino_speech.transfer.system import FineTunedSystem, Predictions
from dino_speech.transfer.targets import Classes, Dimensions, Targets

MAX_COMPARED = 1_500  # utterances: beyond a million pairs the EER moves no more than by the draw of speakers


class Validation:
    """Judges systems on one validation set.

    Classes are judged by UAR, dimensions by their mean CCC. With a margin objective and classes that the training set
    lacks (other speakers) the EER of cosines over all pairs of utterances is taken; `seed` is of the draw of
    utterances, where there are too many to compare all pairs. Other classes or cells that do not fit are refused.
    """

    def __init__(self, manifest: Manifest, targets: Targets, objective: str, *, seed: int = 0) -> None:
        self.manifest, self.targets = manifest, targets
        if isinstance(targets, Dimensions):
            self.metric = "ccc"
            targets.of_rows(manifest)
        elif objective in MARGIN_OBJECTIVES and targets.unknown(manifest):
            self.metric = "eer"
            self.manifest = _drawn(manifest, seed)
            names = self.manifest.label(targets.label)
            if not 1 < len(set(names)) < len(names):
                lacking = "no pair of the same and of different speakers; the EER needs both"
                raise InputError(f"{manifest.name}: column {targets.label!r} gives {lacking}")
        else:
            self.metric = "uar"
            targets.of_rows(manifest)

    def __call__(self, system: FineTunedSystem) -> dict[str, float]:
        """The system's figures: the metric by its name first, then others."""
        if self.metric == "eer":
            return self._eer(system)
        predictions = system.predict(self.manifest, num_workers=1)
        _refuse_empty(self.manifest, len(predictions.ids))
        return figures(predictions, self.manifest, self.targets)

    def better(self, new: dict[str, float], old: dict[str, Any] | None) -> bool:
        """Whether the new figures beat the old ones."""
        if old is None:
            return True
        gain = new[self.metric] - old[self.metric]
        return gain < 0 if self.metric == "eer" else gain > 0

    def _eer(self, system: FineTunedSystem) -> dict[str, float]:
        assert isinstance(self.targets, Classes)
        found = system.encoder.embed_files(list(self.manifest), on_error="skip", num_workers=1)
        _refuse_empty(self.manifest, len(found.ids))
        positions = self.manifest.by_id()
        speakers = np.array(self.manifest.label(self.targets.label))[[positions[name] for name in found.ids]]
        unit = found.embeddings / np.linalg.norm(found.embeddings, axis=1, keepdims=True)
        one, other = np.triu_indices(len(unit), k=1)
        return {"eer": eer((unit @ unit.T)[one, other], speakers[one] == speakers[other])}


def figures(predictions: Predictions, manifest: Manifest, targets: Targets) -> dict[str, float]:
    """UAR and accuracy, or mean CCC and that of each dimension, of predictions for rows of a manifest."""
    true = true_labels(predictions, manifest, targets)
    if isinstance(targets, Classes):
        return {"uar": uar(true, predictions.predicted), "accuracy": accuracy(true, predictions.predicted)}
    single = {name: ccc(true[:, i], predictions.values[:, i]) for i, name in enumerate(targets.names)}
    return {"ccc": float(np.mean(list(single.values()))), **{f"ccc_{name}": value for name, value in single.items()}}


def true_labels(predictions: Predictions, manifest: Manifest, targets: Targets) -> NDArray[Any]:
    """(N,) classes or (N, L) numbers of the rows that were predicted."""
    positions = manifest.by_id()
    rows = [positions[name] for name in predictions.ids]
    if isinstance(targets, Classes):
        return np.array(manifest.label(targets.label))[rows]
    return np.array([manifest.label(name) for name in targets.names], dtype=np.float64).T[rows]


def _drawn(manifest: Manifest, seed: int) -> Manifest:
    if len(manifest) <= MAX_COMPARED:
        return manifest
    rng = np.random.default_rng(derive_seed(seed, "validation"))
    return manifest.subset(sorted(rng.choice(len(manifest), MAX_COMPARED, replace=False).tolist()))


def _refuse_empty(manifest: Manifest, num_used: int) -> None:
    if num_used < 2:
        raise InputError(f"{manifest.name}: {num_used} of {len(manifest)} recordings could be used to validate on")
