"""The tables of docs/pages/results.md: `python score.py DATA results/cpu/1986/encoder results/cpu/1987/encoder ...`.

DATA is the folder of the open packs (see docs/pages/results.md). Each encoder is scored on the trials and emotions,
beside its floors: plain `fbank_stats` and `random:ecapa_tdnn`, and two that are harder to beat, whitened by the same
unlabelled training speech as the trained encoder: `fbank_stats`, and the first encoder's network untrained.
Intervals are 95 %, bootstrap over speakers.
"""

import argparse
import json
import sys
from pathlib import Path

from dino_speech import evaluate_classification, evaluate_verification, load_encoder, read_manifest, read_trials
from dino_speech.dino.whiten import whiten
from dino_speech.models.encoder import SpeechEncoder

PACKS = ["speakers_more", "speakers_mixed", "emotion_ravdess", "emotion_nemo", "emotion_urdu"]
SHRINKAGE, NUM_WHITENING = 0.001, 2000  # as in hparams/cpu.yaml


def whitened_floors(data: Path, first: str) -> dict[str, SpeechEncoder]:
    """What whitening alone gives: statistics of the features, and the same network with random weights."""
    train = read_manifest([data / pack / "manifest.csv" for pack in PACKS], where={"split": ["pretrain", "train"]})
    untrained = load_encoder(f"untrained:{first}")
    floors = {"fbank_stats, whitened": load_encoder("fbank_stats"), "the network untrained, whitened": untrained}
    for encoder in floors.values():
        whiten(encoder, list(train), NUM_WHITENING, SHRINKAGE, seed=0)
    return floors


def score(encoder: SpeechEncoder, data: Path) -> dict[str, dict]:
    """All figures of one encoder."""
    figures: dict[str, dict] = {}
    for pack in PACKS[:3]:
        manifest, trials = read_manifest(data / pack / "manifest.csv"), read_trials(data / pack / "trials_test.txt")
        report = evaluate_verification(encoder, manifest, trials, group_by="source").to_dict()
        figures[f"EER {pack}"] = {key: report[key] for key in ("eer", "eer_interval", "min_dcf", "groups")}
    for pack in PACKS[2:]:
        manifest = read_manifest(data / pack / "manifest.csv")
        report = evaluate_classification(encoder, manifest, label="emotion").to_dict()
        figures[f"UAR {pack}"] = {key: report[key] for key in ("uar", "intervals", "chance_uar", "num_folds")}
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("encoders", nargs="+")
    parser.add_argument("--output", type=Path, default=Path("results/scores.json"))
    options = parser.parse_args()
    systems = {name: load_encoder(name) for name in [*options.encoders, "fbank_stats", "random:ecapa_tdnn"]}
    systems |= whitened_floors(options.data, options.encoders[0])
    scores = {}
    for name, encoder in systems.items():
        scores[name] = score(encoder, options.data)
        row = " | ".join(f"{value.get('eer', value.get('uar')):.4g}" for value in scores[name].values())
        print(f"| {name} | {row} |", flush=True)
        options.output.parent.mkdir(parents=True, exist_ok=True)
        options.output.write_text(json.dumps(scores, indent=2) + "\n")
    print(f"written: {options.output}", file=sys.stderr)


if __name__ == "__main__":
    main()
