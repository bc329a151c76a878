"""What each layer of an encoder knows: labels, numbers, speakers, and the acoustics that it carries on.

Every utterance is embedded once, each layer judged by the very evaluations that judge an embedding.
"""

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from dino_speech.data.folds import speaker_folds
from dino_speech.data.trials import Trials, resolve
from dino_speech.data.utterances import Manifest, Skipped
from dino_speech.errors import InputError
from dino_speech.evaluation.layers.cca import Similarity, SplitView, within_speakers
from dino_speech.evaluation.layers.descriptors import Descriptors, describe, describe_text
from dino_speech.evaluation.layers.layer_features import LayerFeatures, layer_features
from dino_speech.evaluation.layers.layer_mixtures import Mixture, Target, compare_mixtures, layers_of_one_width
from dino_speech.evaluation.probing.classification import evaluate_classification
from dino_speech.evaluation.probing.crossfit import labelled_speech
from dino_speech.evaluation.probing.regression import evaluate_regression
from dino_speech.evaluation.verification.evaluate import evaluate_verification
from dino_speech.intervals import CORRELATION, Interval, bootstrap_interval, sample_of
from dino_speech.models.encoder import SpeechEncoder
from dino_speech.plain_data import PlainData
from dino_speech.provenance import provenance

NUM_FOLDS = 5
WITHIN = ", within speakers"
MAX_SIMILARITY_RESAMPLES = 200  # each takes as long as a hundred of a probe's


@dataclass(frozen=True)
class LayerResult(PlainData):
    """One layer. What was not asked for is None or empty."""

    name: str
    width: int  # channels
    uar: float | None = None  # of the label, by a linear probe
    eer: float | None = None  # percent, of cosine scores
    ccc: dict[str, float] = field(default_factory=dict)  # of each numeric label, by ridge regression
    similarity: dict[str, float] = field(default_factory=dict)  # to each group, held out; also within speakers
    intervals: dict[str, Interval] = field(default_factory=dict)  # 95 %, resampling speakers

    def figures(self) -> dict[str, float]:
        """All figures by name, as in `intervals`."""
        single = {"uar": self.uar, "eer": self.eer}
        return {name: x for name, x in {**single, **self.ccc, **self.similarity}.items() if x is not None}


@dataclass(frozen=True, eq=False)
class LayerReport(PlainData):
    """What `probe_layers` found.

    Args:
        layers: from the first to the last, then `embedding`.
        comparison: per label: best layer, last layer, mean of layers and weighted sum, of the layers `mixed`; empty
            where fewer than two layers have one width.
        label: column of classes, or None; `labels`: columns of numbers.
        chance_uar: of guessing; None without a label.
        num_utterances: embedded.
        num_folds: speaker-disjoint folds.
        num_speakers: None: not all are known; `resampled` and `warnings` are as of a `ClassificationReport`.
    """

    layers: list[LayerResult]
    comparison: dict[str, list[Mixture]]
    mixed: list[str]
    label: str | None
    labels: list[str]
    chance_uar: float | None
    num_utterances: int
    num_folds: int
    num_speakers: int | None
    resampled: str
    warnings: list[str]
    skipped: list[Skipped]
    provenance: dict[str, Any] = field(repr=False)


def probe_layers(
    encoder: SpeechEncoder,
    manifest: Manifest,
    *,
    label: str | None = None,
    labels: Sequence[str] = (),
    trials: Trials | None = None,
    descriptors: "str | os.PathLike[str] | Mapping[str, ArrayLike] | ArrayLike | None" = None,
    transcript: str | None = None,
    layers: Sequence[str] = ("*",),
    num_folds: int | None = None,
    seed: int = 0,
    speaker: str = "speaker",
    num_resamples: int = 1000,
    cache: str | os.PathLike[str] | None = None,
    **options: Any,
) -> LayerReport:
    """Judge every layer of an encoder, each as the mean of its frames.

    Args:
        encoder: any.
        manifest: the utterances.
        label: a column of classes, for a linear probe.
        labels: columns of numbers, for ridge regression.
        trials: a list of trials, for the EER of cosine scores.
        descriptors: "egemaps" (needs the extra `descriptors`), a CSV file with a column `ID`, an array (N, Q), or a
            mapping of names to such arrays; compared with each layer by CCA.
        transcript: a column of what was said; its words are compared likewise.
        layers: names or patterns of the layers to judge, such as `["layer_*"]`.
        num_folds: 2 or more; None: 5, or the number of speakers where that is smaller.
        seed: of folds and intervals.
        speaker: the column that no fold may split.
        num_resamples: of the bootstrap; at most 200 of them for similarities.
        cache: folder that keeps the layers, so that a second question costs no second pass.
        options: `batch_s`, `num_workers`, `progress`, as of `embed_files`.

    Raises:
        InputError: nothing is asked, no such column or layer, too few speakers, or an extra is not installed.

    Source: layer by layer, arXiv 2107.04734 and 2210.02595; figures for SER are best in middle layers, 2308.08713.
    """
    rows = _needed(manifest, label, labels, trials, everything=descriptors is not None or transcript is not None)
    groups = _groups(manifest, rows, descriptors, transcript, cache)
    found = layer_features(encoder, manifest, rows=rows, layers=layers, cache=cache, **options)
    how = _How(num_folds, seed, speaker, num_resamples)
    results = [_judge(found, name, label, labels, trials, how) for name in found.widths]
    mixed = alike if len(alike := layers_of_one_width(found.widths)) > 1 else []
    return LayerReport(
        layers=_with_similarities(results, found, groups, how) if groups else results,
        comparison=_compare(found, mixed, label, labels, how) if mixed else {},
        mixed=mixed,
        label=label,
        labels=list(labels),
        chance_uar=None if label is None else 1 / len({cell for cell in manifest.label(label) if cell}),
        num_utterances=int(found.usable.sum()),
        num_folds=how.folds_of(manifest),
        **_sample(found, speaker),
        skipped=found.skipped,
        provenance=provenance(seed=seed, manifest=manifest.paths),
    )


def _sample(found: LayerFeatures, speaker: str) -> dict[str, Any]:
    """Whom the intervals rest on; utterances without a speaker are in no probe."""
    if speaker not in found.manifest.columns:
        return sample_of(None, unknown="trials")
    names = np.array(found.manifest.label(speaker))[found.usable]
    return sample_of(names[names != ""])


@dataclass(frozen=True)
class _How:
    """What all probes share."""

    num_folds: int | None
    seed: int
    speaker: str
    num_resamples: int

    def folds_of(self, manifest: Manifest) -> int:
        """The number of folds, decided once for all probes."""
        if self.num_folds is not None or self.speaker not in manifest.columns:
            return self.num_folds or NUM_FOLDS
        return max(2, min(NUM_FOLDS, len({name for name in manifest.label(self.speaker) if name})))


def _needed(
    manifest: Manifest, label: str | None, labels: Sequence[str], trials: Trials | None, *, everything: bool
) -> NDArray:
    """Positions of the utterances that some question is about."""
    columns = [*([label] if label else []), *labels]
    if not columns and trials is None and not everything:
        raise InputError("nothing to probe: give label, labels, trials, descriptors or transcript")
    if everything:
        return np.arange(len(manifest))
    wanted = np.zeros(len(manifest), dtype=bool)
    for column in columns:
        wanted |= np.array(manifest.label(column)) != ""
    if trials is not None:
        wanted[np.unique(resolve(trials, manifest))] = True
    return np.flatnonzero(wanted)


def _groups(
    manifest: Manifest, rows: NDArray, descriptors: Any, transcript: str | None, cache: "str | os.PathLike[str] | None"
) -> Descriptors:
    """What the layers are compared with by CCA: descriptors of the sound, and of the words."""
    texts = {} if transcript is None else describe_text(manifest, transcript)
    return texts if descriptors is None else {**describe(manifest, rows, descriptors, cache=cache), **texts}


def _judge(
    found: LayerFeatures, name: str, label: str | None, labels: Sequence[str], trials: Trials | None, how: _How
) -> LayerResult:
    """One layer by the evaluations that judge embeddings."""
    embedded, figures, intervals = found.embedded(name), dict[str, Any](), dict[str, Interval]()
    if label is not None:
        classified = evaluate_classification(None, found.manifest, label=label, embedded=embedded, **vars(how))
        figures["uar"], intervals["uar"] = classified.uar, classified.intervals["uar"]
    if labels:
        regressed = evaluate_regression(None, found.manifest, labels=labels, embedded=embedded, **vars(how))
        figures["ccc"] = regressed.ccc
        intervals |= regressed.intervals
    if trials is not None:
        verified = evaluate_verification(
            None, found.manifest, trials, embedded=embedded, num_resamples=how.num_resamples, seed=how.seed
        )
        figures["eer"], intervals["eer"] = verified.eer, verified.eer_interval
    return LayerResult(name, found.widths[name], **figures, intervals=intervals)


def _with_similarities(
    results: list[LayerResult], found: LayerFeatures, groups: Descriptors, how: _How
) -> list[LayerResult]:
    """The layers' results with similarities to each group of descriptors, over the utterances that have all of them.

    And once more less each speaker's mean, where speakers have several: similarity of pitch can be mere sex.
    """
    speakers = np.array(found.manifest.label(how.speaker))
    kept = found.usable & (speakers != "")
    for values in groups.values():
        kept &= np.isfinite(values).all(axis=1)
    if kept.sum() < 2:
        raise InputError(f"{found.manifest.name}: fewer than 2 utterances have a {how.speaker}, audio and descriptors")
    names = speakers[kept]
    several = np.isin(names, [name for name, num in Counter(names.tolist()).items() if num > 1])
    num_folds, draws = how.folds_of(found.manifest), min(how.num_resamples, MAX_SIMILARITY_RESAMPLES)
    judged = []
    for result in results:
        layer, said = found.layer(result.name)[kept], {group: values[kept] for group, values in groups.items()}
        similarities = _similarities(layer, said, names, num_folds, how.seed)
        if np.unique(names[several]).size >= num_folds:
            own = names[several]
            said = {f"{group}{WITHIN}": within_speakers(values[several], own) for group, values in said.items()}
            similarities |= _similarities(within_speakers(layer[several], own), said, own, num_folds, how.seed)
        intervals = {
            group: bootstrap_interval(one.value, whose, bounds=CORRELATION, num_resamples=draws, seed=how.seed)
            for group, (one, whose) in similarities.items()
        }
        found_values = {group: one.value() for group, (one, _) in similarities.items()}
        judged.append(replace(result, similarity=found_values, intervals={**result.intervals, **intervals}))
    return judged


def _similarities(
    layer: NDArray, groups: Descriptors, speakers: NDArray, num_folds: int, seed: int
) -> dict[str, tuple[Similarity, NDArray]]:
    """Of a layer to each group of descriptors, with the speakers to resample."""
    view = SplitView(layer, speaker_folds(speakers.tolist(), num_folds=num_folds, seed=seed), speakers, seed=seed)
    return {group: (view.compare(values), speakers) for group, values in groups.items()}


def _compare(
    found: LayerFeatures, mixed: list[str], label: str | None, labels: Sequence[str], how: _How
) -> dict[str, list[Mixture]]:
    """For each label the best layer, the last one, the mean and the learnt sum."""
    comparison = {}
    embedded = found.embedded(mixed[0])  # which utterances are usable is the same for all layers
    for name in [*([label] if label else []), *labels]:
        data = labelled_speech(None, found.manifest, labels=[name], speaker=how.speaker, embedded=embedded)
        values = data.values[:, 0] if name == label else np.array(found.manifest.numbers(name))[data.rows]
        folds = data.folds(how.num_folds, seed=how.seed, stratified=name == label)
        target = Target(values, data.speakers, how.seed)
        stack = {layer: found.layer(layer)[data.rows] for layer in mixed}
        comparison[name] = compare_mixtures(
            stack, target, data.speakers, folds, num_resamples=how.num_resamples, seed=how.seed
        )
    return comparison
