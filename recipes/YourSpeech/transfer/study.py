"""The transfer tables of docs/pages/results.md: `python study.py DATA --dino ENCODER [--only emotion ...]`.

DATA is the folder of the open packs (see docs/pages/results.md). Trains the supervised x-vector on the speakers whose
names are known, then compares it with the DINO encoder and with the same network without pretraining: frozen, tuned at
once, tuned in stages. Everything that is finished is kept in the output folder, so that a stopped study goes on.
"""

import argparse
import json
from pathlib import Path

import numpy as np

from dino_speech import (
    PLDA,
    Augment,
    Clustering,
    FineTuneStage,
    PseudoLabelTrainer,
    TransferStudy,
    evaluate_verification,
    load_encoder,
    read_manifest,
    read_trials,
)
from dino_speech.data.manifest import write_manifest
from dino_speech.data.trials import resolve
from dino_speech.data.utterances import Manifest
from dino_speech.embedding.embedded_manifest import embed_manifest
from dino_speech.models.encoder import SpeechEncoder
from dino_speech.recipe import load_recipe, run_finetuning

PACKS = ["speakers_more", "speakers_mixed", "emotion_ravdess", "emotion_nemo", "emotion_urdu"]
SUPERVISED = Path(__file__).parents[1] / "supervised" / "hparams" / "xvector.yaml"
SEEDS = [1986, 1987, 1988]
SHARED = ["angry", "happy", "neutral", "sad"]  # the emotions that all three corpora have
MILD = Augment(p_noise=0.3, snr_db=(10.0, 25.0), p_reverb=0.1)  # as in ../emotion/hparams/staged.yaml
TUNER = {"batch_size": 32}
AFFINE = FineTuneStage("affine", epochs=5, lr=3e-3, encoder_lr=1e-3, chunk_s=3.0, augment=MILD)
ALL = FineTuneStage("all", epochs=8, lr=1e-3, encoder_lr=5e-4, layer_decay=0.8, chunk_s=3.0, augment=MILD)
ONE_SHOT = FineTuneStage("all", epochs=13, lr=1e-3, encoder_lr=5e-4, layer_decay=0.8, chunk_s=3.0, augment=MILD)
HEAD = FineTuneStage("head", epochs=13, lr=3e-3, chunk_s=3.0)
STRATEGIES = {"staged": [AFFINE, ALL], "one-shot": [ONE_SHOT], "frozen": [HEAD]}


def unlabelled(data: Path) -> Manifest:
    """All training speech."""
    return read_manifest([data / pack / "manifest.csv" for pack in PACKS], where={"split": ["pretrain", "train"]})


def speakers(data: Path, output: Path) -> Path:
    """A manifest of the training speech whose speakers are known."""
    train = unlabelled(data)
    named = [row for row, name in enumerate(train.label("speaker")) if name]
    return write_manifest(train.subset(named), output / "speakers.csv")


def supervised(data: Path, output: Path, epochs: int) -> str:
    """The supervised x-vector's folder; trained where it is not there yet."""
    folder = output / "xvector"
    overrides = [f"--train_manifest={speakers(data, output)}", f"--output_folder={folder}"]
    run_finetuning(load_recipe(SUPERVISED, [*overrides, f"--stages.all.epochs={epochs}"]), keep_encoder=True)
    return str(folder / "encoder")


def emotion(systems: dict[str, str], data: Path, output: Path, seeds: list[int]) -> None:
    """UAR of each system tuned in each way, on speakers that no training has heard."""
    for pack in ("emotion_ravdess", "emotion_nemo", "emotion_urdu"):
        study = TransferStudy(systems, STRATEGIES, label="emotion", split_column="split", tuner=TUNER)
        table = study.run(data / pack / "manifest.csv", output_folder=output / pack, seeds=seeds)
        print(f"\n{pack}\n\n{table.to_markdown()}", flush=True)


def settings(systems: dict[str, str], data: Path, output: Path, seeds: list[int]) -> None:
    """Chunk length and augmentation, DINO in stages on RAVDESS."""
    study = TransferStudy(
        {"dino": systems["dino"]},
        {"staged": STRATEGIES["staged"]},
        label="emotion",
        split_column="split",
        chunk_s=[1.0, 2.0, 3.0, 4.0, 6.0],
        augment=[True, False],
        tuner=TUNER,
    )
    table = study.run(data / "emotion_ravdess" / "manifest.csv", output_folder=output / "settings", seeds=seeds)
    print(f"\nchunks and augmentation, emotion_ravdess\n\n{table.to_markdown()}", flush=True)


def cross_corpus(systems: dict[str, str], data: Path, output: Path, seeds: list[int]) -> None:
    """Trained on RAVDESS, judged on nEMO and URDU, by the emotions that they share."""
    chosen = {name: systems[name] for name in systems if name in ("dino", "none", "xvector")}
    study = TransferStudy(chosen, STRATEGIES, label="emotion", split_column="split", classes=SHARED, tuner=TUNER)
    others = {pack: data / f"emotion_{pack}" / "manifest.csv" for pack in ("nemo", "urdu")}
    manifest = data / "emotion_ravdess" / "manifest.csv"
    table = study.run(manifest, output_folder=output / "cross_corpus", seeds=seeds, others=others)
    print(f"\ntrained on emotion_ravdess, {', '.join(SHARED)}\n\n{table.to_markdown()}", flush=True)


def clinical(systems: dict[str, str], data: Path, output: Path, seeds: list[int]) -> None:
    """A binary clinical question: sustained vowels of people with and without Parkinson's disease, by person."""
    study = TransferStudy(systems, STRATEGIES, label="label", num_folds=5, tuner=TUNER | {"batch_size": 16})
    manifest = data / "pathology_parkinson_vowel" / "manifest.csv"
    table = study.run(manifest, output_folder=output / "parkinson_vowel", seeds=seeds)
    print(f"\nParkinson's disease from a vowel\n\n{table.to_markdown()}", flush=True)


def verification(systems: dict[str, str], data: Path, output: Path, seeds: list[int]) -> None:
    """EER after tuning with the training part's speaker names; `as it is`: without."""
    stages = {
        "as it is": [],
        "staged": [
            FineTuneStage("affine", epochs=3, lr=3e-3, encoder_lr=1e-3, chunk_s=2.0, augment=MILD),
            FineTuneStage("all", epochs=5, lr=1e-3, encoder_lr=5e-4, layer_decay=0.8, chunk_s=2.0, augment=MILD),
        ],
        "one-shot": [
            FineTuneStage("all", epochs=8, lr=1e-3, encoder_lr=5e-4, layer_decay=0.8, chunk_s=2.0, augment=MILD)
        ],
    }
    study = TransferStudy(
        systems,
        stages,
        label="speaker",
        objective="aam_softmax",
        tuner={"batch_size": 48, "class_weights": None},
        keep_systems=True,
    )
    lists = {pack: (read_trials(data / pack / "trials_test.txt"), data / pack / "manifest.csv") for pack in PACKS[:3]}
    table = study.run(
        speakers(data, output), output_folder=output / "verification", seeds=seeds, trials=lists, group_by="source"
    )
    print(f"\nspeakers\n\n{table.to_markdown()}", flush=True)


def pseudo_labels(systems: dict[str, str], data: Path, output: Path, seeds: list[int]) -> None:
    """Rounds of clustering and fine-tuning without any label; EER by cosine, and by PLDA trained on the clusters."""
    train = unlabelled(data)
    trainer = PseudoLabelTrainer(
        load_encoder(systems["dino"]),
        clustering=Clustering(num_clusters=3000, utterances_per_centroid=1),
        stages=[
            FineTuneStage("affine", epochs=3, lr=3e-3, encoder_lr=1e-3, chunk_s=2.0, augment=MILD),
            FineTuneStage("all", epochs=4, lr=1e-3, encoder_lr=3e-4, layer_decay=0.8, chunk_s=2.0, augment=MILD),
        ],
        tuner={"batch_size": 48, "class_weights": None},
    )
    for seed in seeds:
        trainer.fit(
            train, output_folder=output / "pseudo_labels" / str(seed), seed=seed, monitor=lambda e: eers(e, data)
        )
        (output / f"pseudo_labels_{seed}.json").write_text(json.dumps(trainer.rounds_, indent=2) + "\n")
        print(json.dumps(trainer.rounds_, indent=2), flush=True)


def eers(encoder: SpeechEncoder, data: Path) -> dict[str, float]:
    """EER by cosine on the three lists, and by PLDA that has only seen clusters of unlabelled speech."""
    train = unlabelled(data)
    vectors = embed_manifest(encoder, train, num_workers=1)
    kept = vectors.usable
    clusters = Clustering(num_clusters=3000, utterances_per_centroid=1).fit(vectors.embeddings[kept], seed=0)
    plda = PLDA().fit(vectors.embeddings[kept][clusters.kept], clusters.labels[clusters.kept].astype(str))
    found = {}
    for pack in PACKS[:3]:
        manifest, trials = read_manifest(data / pack / "manifest.csv"), read_trials(data / pack / "trials_test.txt")
        embedded = embed_manifest(encoder, manifest, rows=np.unique(resolve(trials, manifest)), num_workers=1)
        for name, backend in (("cosine", "cosine"), ("plda", plda)):
            report = evaluate_verification(None, manifest, trials, embedded=embedded, backend=backend, num_resamples=2)
            found[f"{pack}_{name}"] = report.eer
    return found


PARTS = {part.__name__: part for part in (emotion, cross_corpus, clinical, verification, pseudo_labels, settings)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("--dino", required=True, help="folder of the pretrained encoder")
    parser.add_argument("--output", type=Path, default=Path("results/transfer"))
    parser.add_argument("--seeds", type=int, nargs="+", default=SEEDS)
    parser.add_argument("--epochs-supervised", type=int, default=15)
    parser.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS))
    options = parser.parse_args()
    options.output.mkdir(parents=True, exist_ok=True)
    systems = {
        "dino": options.dino,
        "xvector": supervised(options.data, options.output, options.epochs_supervised),
        "none": f"untrained:{options.dino}",
    }
    for name in options.only:
        PARTS[name](systems, options.data, options.output, options.seeds)


if __name__ == "__main__":
    main()
