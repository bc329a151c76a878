"""Label-free verification beside its floors: EER under three back-ends, on one half of the evaluation speakers.

    python judge.py DATA --half dev --systems joined@1986=results/1986/joined joined@1987=results/1987/joined

DATA is the folder of the open packs (docs/pages/results.md). A name before `@` is a system, what follows it a seed: a
system's figure is the mean over its seeds. Every encoder, floors included, is scored by cosine `as it is`; then,
whitened by the same unlabelled speech (the packs' files of `pretrain` and `train`), by `cosine`, by PLDA trained on
clusters of that speech (`clusters`), and by PLDA trained on its speakers (`labels`, the only back-end that reads any).
Differences are from the floor that is best under the same back-end, with the 95 % interval over speakers, the same
speakers drawn on both sides.

The evaluation speakers are halved once and for all, by a hash of their names: choose on `dev`, report on `test`.
"""

import argparse
import hashlib
import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from dino_speech import PLDA, Clustering, build_encoder, load_encoder, read_manifest, read_trials
from dino_speech.data.manifest import Manifest
from dino_speech.data.resumable_store import ResumableStore
from dino_speech.data.trials import Trials, resolve
from dino_speech.embedding.embedded_manifest import embed_manifest
from dino_speech.intervals import bootstrap_weighted_trials
from dino_speech.metrics import RankedTrials
from dino_speech.models.encoder import SpeechEncoder
from dino_speech.models.fingerprint import fingerprint
from dino_speech.models.registry import JOINED
from dino_speech.models.whitening import Whitening

PACKS = ["speakers_more", "speakers_mixed", "emotion_ravdess", "emotion_nemo", "emotion_urdu"]
LISTS = PACKS[:3]
BACKENDS = ("as it is", "cosine", "clusters", "labels")
SHRINKAGE, NUM_CLUSTERS, NUM_RESAMPLES = 0.001, 3000, 400
NETWORK = {"embedding_dim": 192, "channels": 128, "attention_channels": 64, "se_channels": 64, "hop_ms": 20.0}
SPECTRUM_KEPT = {"mean_norm": "none", "pre_emphasis": 0.0, "floor": 1e-6, "statistics_shortcut": True}
Scores = dict[tuple[str, str], NDArray[np.float32]]  # (back-end, list) -> one per trial


def floors(seed: int) -> dict[str, SpeechEncoder]:
    """What nothing was learnt for: statistics of the features, and the recipes' two networks with random weights."""
    return {
        "fbank_stats": load_encoder("fbank_stats"),
        "untrained, spectrum kept": build_encoder("ecapa_tdnn", **NETWORK, **SPECTRUM_KEPT, seed=seed),
        "untrained, mean removed": build_encoder("ecapa_tdnn", **NETWORK, mean_norm="utterance", seed=seed),
    }


def half_of(speaker: str) -> str:
    """Always the same for a speaker, wherever the name occurs."""
    return "dev" if hashlib.sha256(speaker.encode()).digest()[-1] % 2 == 0 else "test"


class Lists:
    """The trials of one half: both sides' speakers are in it. `speakers` are those of both sides by list."""

    def __init__(self, data: Path, half: str) -> None:
        self.train = read_manifest(
            [data / pack / "manifest.csv" for pack in PACKS], where={"split": ["pretrain", "train"]}
        )
        self.manifests: dict[str, Manifest] = {}
        self.trials: dict[str, Trials] = {}
        self.speakers: dict[str, tuple[NDArray[np.str_], NDArray[np.str_]]] = {}
        self.rows: dict[str, tuple[NDArray[np.intp], NDArray[np.intp]]] = {}
        for name in LISTS:
            manifest = read_manifest(data / name / "manifest.csv", where={"split": "test"})
            trials, speakers = read_trials(data / name / "trials_test.txt"), np.array(manifest.label("speaker"))
            sides = [speakers[rows] for rows in resolve(trials, manifest)]
            inside = np.array([half_of(one) == half_of(other) == half for one, other in zip(*sides, strict=True)])
            self.manifests[name], self.trials[name] = manifest, trials.subset(np.flatnonzero(inside))
            self.speakers[name] = (sides[0][inside], sides[1][inside])
            self.rows[name] = resolve(self.trials[name], manifest)


def scores_of(encoder: SpeechEncoder, lists: Lists, store: ResumableStore) -> Scores:
    """All scores of one encoder; embeddings are kept on disk, so that one system more costs that system only."""
    encoder.whitening = None

    def embed(name: str, manifest: Manifest) -> NDArray[np.float32]:
        depends_on = [fingerprint(encoder), encoder.config.to_dict(), [utterance.id for utterance in manifest]]
        made = store.arrays(name, depends_on, lambda: {"rows": embed_manifest(encoder, manifest).embeddings})
        return made["rows"]

    heard, speakers = embed("train", lists.train), np.array(lists.train.label("speaker"))
    usable = ~np.isnan(heard).any(axis=1)
    heard, speakers, named = heard[usable], speakers[usable], speakers[usable] != ""
    judged = {name: embed(name, lists.manifests[name]) for name in LISTS}
    scores = {("as it is", name): _cosines(rows, *lists.rows[name]) for name, rows in judged.items()}
    if encoder.config.name != JOINED:  # whose parts were whitened before they were joined
        whitening = Whitening(heard.shape[1])
        whitening.fit(torch.from_numpy(heard), shrinkage=SHRINKAGE)
        heard = whitening(torch.from_numpy(heard)).numpy()
        judged = {name: whitening(torch.from_numpy(rows)).numpy() for name, rows in judged.items()}
    found = Clustering(num_clusters=NUM_CLUSTERS, utterances_per_centroid=1).fit(heard, seed=0)
    by_clusters = PLDA().fit(heard[found.kept], found.labels[found.kept].astype(str))
    by_labels = PLDA().fit(heard[named], speakers[named])
    for name, rows in judged.items():
        enroll, test = lists.rows[name]
        scores["cosine", name] = _cosines(rows, enroll, test)
        scores["clusters", name] = by_clusters.project(rows).score_pairs(enroll, test)
        scores["labels", name] = by_labels.project(rows).score_pairs(enroll, test)
    return scores


def _cosines(rows: NDArray[np.float32], enroll: NDArray[np.intp], test: NDArray[np.intp]) -> NDArray[np.float32]:
    unit = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    return np.einsum("td,td->t", unit[enroll], unit[test])


def table(systems: Mapping[str, Sequence[Scores]], floors: Mapping[str, Sequence[Scores]], lists: Lists) -> list[dict]:
    """A row per back-end, list and system: mean EER of its seeds in %, their range, and its difference."""
    rows = []
    for backend in BACKENDS:
        for name in LISTS:
            labels, speakers = lists.trials[name].labels, lists.speakers[name]
            eers = {
                system: [_Eer(seed[backend, name], labels) for seed in seeds]
                for system, seeds in {**floors, **systems}.items()
            }
            best = min(floors, key=lambda floor: _mean(eers[floor], None))
            for system, seeds in eers.items():
                values = [one(None) for one in seeds]
                row = {
                    "backend": backend,
                    "list": name,
                    "system": system,
                    "eer": float(np.mean(values)),
                    "seeds": values,
                }
                if system in systems:
                    found = bootstrap_weighted_trials(
                        lambda counts, own=seeds, floor=eers[best]: _mean(own, counts) - _mean(floor, counts),
                        len(labels),
                        *speakers,
                        num_resamples=NUM_RESAMPLES,
                        seed=0,
                    )
                    difference = row["eer"] - _mean(eers[best], None)
                    row |= {"floor": best, "difference": difference, "interval": [found.low, found.high]}
                rows.append(row)
    return rows


class _Eer:
    """The EER of fixed scores in %, by how often each trial counts."""

    def __init__(self, scores: NDArray[np.floating], labels: NDArray[np.integer]) -> None:
        self._ranked = RankedTrials(scores, labels)

    def __call__(self, counts: NDArray[np.integer] | None) -> float:
        return self._ranked.curve(None if counts is None else counts[self._ranked.order]).eer()


def _mean(seeds: Sequence[_Eer], counts: NDArray[np.integer] | None) -> float:
    return float(np.mean([one(counts) for one in seeds]))


def show(rows: Sequence[Mapping], num_trials: Mapping[str, int]) -> str:
    """As Markdown."""
    lines = ["| back-end | system | " + " | ".join(f"{name} ({num} trials)" for name, num in num_trials.items()) + " |"]
    lines.append("|---|---|" + "---|" * len(num_trials))
    cells: dict[tuple[str, str], list[str]] = defaultdict(list)
    for row in rows:
        cell, values = f"{row['eer']:.1f}", row["seeds"]
        cell += f" [{min(values):.1f}–{max(values):.1f}]" if len(values) > 1 else ""
        if "difference" in row:
            low, high = row["interval"]
            cell += f", {row['difference']:+.1f} ({low:+.1f} to {high:+.1f})"
        cells[row["backend"], row["system"]].append(cell)
    return "\n".join(lines + [f"| {' | '.join([*names, *found])} |" for names, found in cells.items()])


def main() -> None:
    """Judge, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--half", choices=("dev", "test"), required=True, help="choose on dev, report on test")
    parser.add_argument("--systems", nargs="*", default=[], metavar="NAME[@SEED]=ENCODER")
    parser.add_argument("--floor-seeds", nargs="+", type=int, default=[1986], help="of the untrained networks")
    parser.add_argument("--output", type=Path, default=Path("results/judged"))
    options = parser.parse_args()
    lists, store = Lists(options.data, options.half), ResumableStore(options.output / "kept")
    systems: dict[str, list[Scores]] = defaultdict(list)
    for given in options.systems:
        name, _, source = given.partition("=")
        systems[name.partition("@")[0]].append(scores_of(load_encoder(source), lists, store))
    plain: dict[str, list[Scores]] = defaultdict(list)
    for seed in options.floor_seeds:
        for name, encoder in floors(seed).items():
            plain[name].append(scores_of(encoder, lists, store))
    rows = table(systems, plain, lists)
    print(show(rows, {name: len(lists.trials[name]) for name in LISTS}))
    (options.output / f"{options.half}.json").write_text(json.dumps(rows, indent=2) + "\n")


if __name__ == "__main__":
    main()
