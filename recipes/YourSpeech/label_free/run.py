"""From unlabelled speech to an encoder of voices: `python run.py data/manifest.csv --output results/label_free`.

1. `contrast/`: a network learns to tell utterances apart by two views that share no word (hparams/contrast.yaml).
2. `beside/`: the same network with random weights, which keeps the long-term spectrum; both are whitened.
3. `rounds/`: what the two hear together is clustered, and the first is tuned to tell the clusters apart
   (hparams/rounds.yaml). `rounds/encoder` is the result: the two side by side.

No label is read but, with --batch-by, the column that says where a recording comes from. A stopped run goes on with the
same command. `judge.py` sets each step beside its floors.
"""

import argparse
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from dino_speech import build_encoder, join_encoders, load_encoder, read_manifest
from dino_speech.data.derived_manifests import long_enough
from dino_speech.data.manifest import Manifest, write_manifest
from dino_speech.dino.whiten import whiten
from dino_speech.recipe import load_recipe, run_pretraining, run_pseudo_labels
from dino_speech.transfer.clusters import MAX_AGGLOMERATED

HPARAMS = Path(__file__).parent / "hparams"
SPECTRUM_KEPT = {"mean_norm": "none", "pre_emphasis": 0.0, "floor": 1e-6, "statistics_shortcut": True}
NETWORK = {"embedding_dim": 192, "channels": 128, "attention_channels": 64, "se_channels": 64, "hop_ms": 20.0}
MIN_S = 4.0  # [paper] of an utterance that is clustered: a shorter one says too little of its speaker
UTTERANCES_PER_CLUSTER = 4  # more clusters than speakers: one that is split teaches little that is wrong


def make_beside(manifest: Manifest, folder: Path, network: Mapping[str, Any]) -> None:
    """The network with random weights that keeps the long-term spectrum, whitened by the speech."""
    if not (folder / "encoder.json").exists():
        encoder = build_encoder("ecapa_tdnn", **network, **SPECTRUM_KEPT)
        whiten(encoder, list(manifest), 2000, 0.001, network["seed"])
        encoder.save(folder)


def main(arguments: Sequence[str] | None = None, *, min_s: float = MIN_S, beside: Mapping[str, Any] = NETWORK) -> None:
    """Train what is not trained yet."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("manifests", nargs="+", type=Path)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=1986)
    parser.add_argument("--utterances", type=int, default=450_000, help="that the first step hears, over all passes")
    parser.add_argument("--epochs", type=int, default=20, help="of the tuning")
    parser.add_argument("--batch-by", metavar="COLUMN", help="of the source: a batch is drawn from one of its values")
    parser.add_argument("--noise", type=Path, help="manifest of noises; without one noise is made")
    parser.add_argument("--rir", type=Path, help="manifest of room responses; without one rooms are made")
    parser.add_argument("--contrast", nargs="*", default=[], metavar="KEY=VALUE", help="other values of contrast.yaml")
    parser.add_argument("--rounds", nargs="*", default=[], metavar="KEY=VALUE", help="other values of rounds.yaml")
    options = parser.parse_args(arguments)
    manifest = read_manifest(options.manifests)
    if len(manifest) < 2 * beside["embedding_dim"]:
        raise SystemExit(
            f"{len(manifest)} utterances; expected {2 * beside['embedding_dim']} or more, to whiten by them"
        )
    sources = f"[{', '.join(map(str, options.manifests))}]"
    same = [f"--seed={options.seed}"]
    same += [f"--augment.{name}={path}" for name in ("noise", "rir") if (path := getattr(options, name)) is not None]
    contrast = [f"--output_folder={options.output / 'contrast'}", f"--train_manifest={sources}", *same]
    contrast += [f"--trainer.schedule.length={options.utterances} utterances"]
    contrast += [f"--trainer.schedule.batch_by={options.batch_by}"] if options.batch_by else []
    run_pretraining(load_recipe(HPARAMS / "contrast.yaml", [*contrast, *(f"--{item}" for item in options.contrast)]))
    make_beside(manifest, options.output / "beside", {**beside, "seed": options.seed})
    started = join_encoders([load_encoder(options.output / name) for name in ("contrast/encoder", "beside")])
    started.save(options.output / "joined")
    clustered = long_enough(manifest, min_s)
    write_manifest(clustered, options.output / "clustered.csv")
    rounds = [f"--output_folder={options.output / 'rounds'}", f"--train_manifest={options.output / 'clustered.csv'}"]
    rounds += [
        f"--encoder.source={options.output / 'contrast/encoder'}",
        f"--beside.source={options.output / 'beside'}",
    ]
    rounds += [f"--clustering.num_clusters={len(clustered) // UTTERANCES_PER_CLUSTER}", *same]
    rounds += [f"--clustering.utterances_per_centroid={math.ceil(len(clustered) / MAX_AGGLOMERATED)}"]
    rounds += [f"--stages.all.epochs={options.epochs}"]
    run_pseudo_labels(load_recipe(HPARAMS / "rounds.yaml", [*rounds, *(f"--{item}" for item in options.rounds)]))


if __name__ == "__main__":
    main()
