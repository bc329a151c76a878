"""Whether anything was learnt: the best pretrained encoder against the best one that has learnt nothing."""

from collections.abc import Sequence

import numpy as np

from dino_speech.data.trials import read_trials
from dino_speech.embedding.embedded_manifest import EmbeddedManifest
from dino_speech.evaluation.verification.fitted_backend import usable_trials
from dino_speech.intervals import bootstrap_weighted_trials
from dino_speech.metrics import RankedTrials
from dino_speech.quickstart.data import QuickstartData
from dino_speech.quickstart.report import SystemFigures

NUM_RESAMPLES = 200


def verdict(floors: Sequence[SystemFigures], learnt: Sequence[SystemFigures], data: QuickstartData) -> list[str]:
    """A sentence with the difference of the two EERs and its 95 % interval, the same speakers drawn for both.

    Of each kind the one with the lowest EER speaks. Without trials there is no sentence.
    """
    if data.trials_path is None:
        return []
    best, own = (min(systems, key=lambda system: system.eer or 0.0) for systems in (floors, learnt))
    assert best.verification is not None
    assert own.verification is not None
    ranked = [RankedTrials(system.scores, system.labels) for system in (own.verification, best.verification)]

    def difference(counts: np.ndarray | None) -> float:
        eers = [one.curve(None if counts is None else counts[one.order]).eer() for one in ranked]
        return eers[0] - eers[1]

    embedded = EmbeddedManifest(data.test, own.embeddings)
    rows = usable_trials(read_trials(data.trials_path), embedded)[:2]
    speakers = np.array(data.test.label("speaker"))
    sides = [speakers[side] for side in rows]
    known = all((side != "").all() for side in sides)
    found = bootstrap_weighted_trials(
        difference, len(rows[0]), *(sides if known else (None, None)), num_resamples=NUM_RESAMPLES, seed=0
    )
    text = f"The best of what learnt nothing is {best.name!r}, EER {best.eer:.1f} %; {own.name!r} has {own.eer:.1f} %: "
    text += f"{difference(None):+.1f} ({found.low:+.1f} to {found.high:+.1f}). "
    if found.high < 0:
        return [text + "Pretraining has learnt something that whitening does not give."]
    return [text + "Nothing is shown to be learnt of speakers beyond what whitening gives for nothing."]
