"""What each setting of the laptop recipe is worth: `python sweep.py DATA [--num-steps 150] [--only NAME ...]`.

DATA is the folder of the open packs (see docs/pages/reproduce.md). Each row changes one thing of `hparams/cpu.yaml` in
a short run and prints EER before and after whitening on the three trial lists. Finished rows are kept in the output
folder, so that a stopped sweep goes on. One seed, short runs: differences under a point or two say nothing.
"""

import argparse
import json
from pathlib import Path

from dino_speech import evaluate_verification, load_encoder, read_manifest, read_trials
from dino_speech.dino.whiten import whiten
from dino_speech.models.encoder import SpeechEncoder
from dino_speech.recipe import load_recipe, run_pretraining

PACKS = ["speakers_more", "speakers_mixed", "emotion_ravdess", "emotion_nemo", "emotion_urdu"]
RECIPE = Path(__file__).parent / "hparams" / "cpu.yaml"
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
    "teacher_batchnorm: ema": ["--trainer.teacher_batchnorm=ema"],
    "head_batch_norm: false": ["--trainer.head_batch_norm=false"],
    "centering: mean": ["--trainer.centering=mean"],
    "koleo_weight: 0": ["--trainer.koleo_weight=0.0"],
    "num_prototypes: 512": ["--trainer.num_prototypes=512"],
    "num_prototypes: 8192": ["--trainer.num_prototypes=8192"],
    "teacher_momentum: 0.996": ["--trainer.teacher_momentum=0.996"],
    "lr: 2e-3": ["--trainer.lr=2.0e-3"],
    "hop_ms: 10": ["--encoder.hop_ms=10.0"],
}


def eers(encoder: SpeechEncoder, data: Path) -> list[float]:
    """EER in percent on the three trial lists."""
    found = []
    for pack in PACKS[:3]:
        manifest, trials = read_manifest(data / pack / "manifest.csv"), read_trials(data / pack / "trials_test.txt")
        found.append(evaluate_verification(encoder, manifest, trials, num_resamples=10).eer)
    return found


def run(name: str, data: Path, output: Path, num_steps: int) -> dict[str, list[float]]:
    """Pretrain one variant without whitening, score it, whiten it, score it again."""
    manifests = [str(data / pack / "manifest.csv") for pack in PACKS]
    folder = output / "".join(letter if letter.isalnum() else "_" for letter in name)
    overrides = [f"--train_manifest=[{', '.join(manifests)}]", "--where={split: [pretrain, train]}"]
    overrides += [f"--output_folder={folder}", f"--trainer.num_steps={num_steps}", "--trainer.warmup_steps=20"]
    overrides += ["--trainer.whitening_shrinkage=null", "--monitor=null"]
    overrides += [f"--augment.{kind}={data / 'noise_rir' / 'manifest.csv'}" for kind in ("noise", "rir")]
    run_pretraining(load_recipe(RECIPE, [*overrides, *VARIANTS[name]]))
    encoder = load_encoder(folder / "encoder")
    raw = eers(encoder, data)
    whiten(encoder, list(read_manifest(manifests, where={"split": ["pretrain", "train"]})), 1000, 0.001, seed=0)
    return {"raw": raw, "whitened": eers(encoder, data)}


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
