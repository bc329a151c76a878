"""Whether anything was learnt: the best pretrained encoder against the best one that has learnt nothing."""

from collections.abc import Sequence

import numpy as np

from dino_speech.data.trials import resolve
from dino_speech.quickstart.data import QuickstartData
from dino_speech.quickstart.report import SystemFigures
from dino_speech.studies.comparison.task_predictions import TaskPredictions, figures_with_differences

NUM_RESAMPLES, EER = 200, np.array(["eer"])


def verdict(floors: Sequence[SystemFigures], learnt: Sequence[SystemFigures], data: QuickstartData) -> list[str]:
    """A sentence with the difference of the two EERs and its 95 % interval, the same speakers drawn for both.

    Of each kind the one with the lowest EER speaks. Too few speakers leave no interval; without trials there is no
    sentence.
    """
    if data.trials_path is None:
        return []
    best, own = (min(systems, key=lambda system: system.eer or 0.0) for systems in (floors, learnt))
    own_predictions, floor = (_predictions(system, data) for system in (own, best))
    options = {"num_resamples": NUM_RESAMPLES, "seed": 0}
    found = figures_with_differences(own_predictions, floor, **options)["eer"]
    difference, (low, high) = found["difference"], (found["difference_interval"][end] for end in ("low", "high"))
    text = f"The best of what learnt nothing is {best.name!r}, EER {best.eer:.1f} %; {own.name!r} has {own.eer:.1f} %: "
    text += f"{difference:+.1f} ({low:+.1f} to {high:+.1f}). " if high is not None else f"{difference:+.1f}. "
    if high is not None and high < 0:
        return [text + "Pretraining has learnt something that whitening does not give."]
    return [text + "Nothing is shown to be learnt of speakers beyond what whitening gives for nothing."]


def _predictions(system: SystemFigures, data: QuickstartData) -> TaskPredictions:
    """The scores of a system beside the speakers of both sides."""
    report = system.verification
    assert report is not None
    speakers = np.array(data.test.label("speaker"))
    sides = np.stack([speakers[rows] for rows in resolve(report.trials, data.test)], axis=1)  # (T, 2)
    known = sides if (sides != "").all() else sides[:, :0]
    return TaskPredictions(report.labels[:, None].astype(float), report.scores[:, None].astype(float), known, EER)
