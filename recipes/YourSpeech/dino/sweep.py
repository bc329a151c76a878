"""What each setting of the laptop recipe is worth: `python sweep.py DATA [--num-steps 150] [--only NAME ...]`.

DATA is the folder of the open packs (see docs/pages/results.md). Each row changes one thing of `hparams/cpu.yaml` in
a short run and prints EER before and after whitening on the three trial lists. Finished rows are kept in the output
folder, so that a stopped sweep goes on. One seed, short runs: differences under a point or two say nothing.
"""

import argparse
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from dino_speech import evaluate_verification, load_encoder, read_manifest, read_trials
from dino_speech.dino.collapse_doctor import rank_me
from dino_speech.embedding.embedded_manifest import EmbeddedManifest, embed_manifest
from dino_speech.models.encoder import SpeechEncoder
from dino_speech.models.whitening import Whitening
from dino_speech.recipe import load_recipe, run_pretraining

PACKS = ["speakers_more", "speakers_mixed", "emotion_ravdess", "emotion_nemo", "emotion_urdu"]
RECIPE = Path(__file__).parent / "hparams" / "cpu.yaml"
SHRINKAGE, NUM_WHITENING = 0.001, 2000  # as in cpu.yaml
PAPER_SNR = [
    "--augment.snr_db=[0.0, 18.0]",
    "--augment.music_snr_db=[3.0, 18.0]",
    "--augment.babble_snr_db=[3.0, 18.0]",
]
VARIANTS: dict[str, list[str]] = {
    "as in cpu.yaml": [],
    "mean_norm: utterance": ["--encoder.mean_norm=utterance"],
    "augmentation as in the paper": ["--augment.p_noise=0.7", "--augment.p_reverb=0.45", *PAPER_SNR],
    "no augmentation": ["--augment.p_noise=0.0", "--augment.p_reverb=0.0"],
    "statistics_shortcut: false": ["--encoder.statistics_shortcut=false"],
    "teacher_batchnorm: ema": ["--trainer.teacher.batchnorm=ema"],
    "head_batch_norm: false": ["--trainer.head.batch_norm=false"],
    "centering: mean": ["--trainer.objective.centering=mean"],
    "koleo_weight: 0": ["--trainer.objective.koleo_weight=0.0"],
    "num_prototypes: 512": ["--trainer.head.num_prototypes=512"],
    "num_prototypes: 8192": ["--trainer.head.num_prototypes=8192"],
    "teacher_momentum: 0.996": ["--trainer.teacher.momentum=0.996"],
    "teacher_temperature: 0.07": ["--trainer.objective.teacher_temperature=0.07"],
    "lr: 1e-3": ["--trainer.optimizer.lr=1.0e-3"],
    "lr: 8e-3": ["--trainer.optimizer.lr=8.0e-3"],
    "batch_size: 24": ["--trainer.schedule.batch_size=24"],
    "batch_size: 96": ["--trainer.schedule.batch_size=96"],
    "crops of 1.5 s and 0.6 s": ["--crops.long_s=1.5", "--crops.short_s=0.6"],
    "crops of 3 s and 1.5 s": ["--crops.long_s=3.0", "--crops.short_s=1.5"],
    "no short crops": ["--crops.num_short=0"],
    "channels: 64": ["--encoder.channels=64"],
    "channels: 256": ["--encoder.channels=256"],
    "embedding_dim: 384": ["--encoder.embedding_dim=384"],
    "hop_ms: 10": ["--encoder.hop_ms=10.0"],
}


def embed_tests(encoder: SpeechEncoder, data: Path) -> dict[str, EmbeddedManifest]:
    """The test utterances of the three trial lists, embedded once."""
    embedded = {}
    for pack in PACKS[:3]:
        manifest = read_manifest(data / pack / "manifest.csv")
        rows = np.flatnonzero(np.array(manifest.label("split")) == "test")
        embedded[pack] = embed_manifest(encoder, manifest, rows=rows, num_workers=1)
    return embedded


def eers(embedded: dict[str, EmbeddedManifest], data: Path, whitening: Whitening | None = None) -> list[float]:
    """EER in percent on the three trial lists."""
    found = []
    for pack, plain in embedded.items():
        vectors = plain.embeddings if whitening is None else whitening(torch.from_numpy(plain.embeddings)).numpy()
        judged = replace(plain, embeddings=vectors)
        trials = read_trials(data / pack / "trials_test.txt")
        found.append(evaluate_verification(None, plain.manifest, trials, embedded=judged, num_resamples=2).eer)
    return found


def run(name: str, data: Path, output: Path, num_steps: int) -> dict[str, Any]:
    """Pretrain one variant without whitening, score it, whiten it, score it again."""
    manifests = [str(data / pack / "manifest.csv") for pack in PACKS]
    folder = output / "".join(letter if letter.isalnum() else "_" for letter in name)
    overrides = [f"--train_manifest=[{', '.join(manifests)}]", "--where={split: [pretrain, train]}"]
    overrides += [f"--output_folder={folder}", f"--trainer.schedule.length={num_steps}", "--trainer.schedule.warmup=20"]
    overrides += ["--trainer.whitening.shrinkage=null", "--monitor=null"]
    overrides += [f"--augment.{kind}={data / 'noise_rir' / 'manifest.csv'}" for kind in ("noise", "rir")]
    summary = run_pretraining(load_recipe(RECIPE, [*overrides, *VARIANTS[name]]))
    encoder = load_encoder(folder / "encoder")
    embedded = embed_tests(encoder, data)
    train = list(read_manifest(manifests, where={"split": ["pretrain", "train"]}))
    chosen = np.random.default_rng(0).choice(len(train), NUM_WHITENING, replace=False)
    unlabelled = encoder.embed_files([train[row] for row in chosen], on_error="skip", num_workers=1).embeddings
    whitening = Whitening(encoder.embedding_dim)
    whitening.fit(torch.from_numpy(unlabelled), shrinkage=SHRINKAGE)
    figures = {"raw": eers(embedded, data), "whitened": eers(embedded, data, whitening)}
    return figures | {"rank_me": rank_me(torch.from_numpy(unlabelled)), "seconds": summary["seconds"]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("--output", type=Path, default=Path("results/sweep"))
    parser.add_argument("--num-steps", type=int, default=150)
    parser.add_argument("--only", nargs="+", choices=VARIANTS, default=list(VARIANTS), metavar="NAME")
    options = parser.parse_args()
    options.output.mkdir(parents=True, exist_ok=True)
    table = options.output / f"sweep_{options.num_steps}.json"
    rows = json.loads(table.read_text()) if table.exists() else {}
    for name in options.only:
        if name not in rows:
            rows[name] = run(name, options.data, options.output / str(options.num_steps), options.num_steps)
            table.write_text(json.dumps(rows, indent=2) + "\n")
        cells = [" / ".join(f"{value:.1f}" for value in rows[name][kind]) for kind in ("raw", "whitened")]
        print(f"| {name} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
