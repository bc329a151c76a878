"""`dino-speech join`, `average`, `mates`: one encoder out of several; what one takes to be of one speaker."""

import argparse
from typing import TYPE_CHECKING

from dino_speech.cli.answer import Answer, left_out, table
from dino_speech.cli.options import (
    MANIFESTS,
    OutputFile,
    Subparsers,
    add_command,
    add_options,
    choose_device,
    chosen,
    load_chosen_encoder,
    read_chosen_manifest,
)

if TYPE_CHECKING:
    from dino_speech.data.utterances import Skipped


def add_commands(subparsers: Subparsers) -> None:
    """Declare the command of this file."""
    parser = add_command(
        *(subparsers, "join", _join, "several encoders -> one: their embeddings side by side, each of length 1"),
        details=(
            "The cosine of two joined embeddings is the mean of the parts' cosines, so whiten the parts: --manifest\n"
            "names unlabelled recordings, none of a test set, for those that do not whiten yet."
        ),
        example="dino-speech join --encoder results/voices/encoder results/channel/encoder --output results/joined",
    )
    _add_several(parser)
    parser = add_command(
        *(subparsers, "average", _average, "several encoders of one run -> one: the mean of their weights"),
        details=(
            "BatchNorm's running statistics are averaged like weights. --manifest names unlabelled recordings, none\n"
            "of a test set, by which the average is whitened. Snapshots: `run.snapshot_every` of a pretraining."
        ),
        example="dino-speech average --encoder results/dino/snapshots/00* --output results/averaged",
    )
    _add_several(parser)
    parser = add_command(
        *(subparsers, "mates", _mates, "which utterances an encoder takes to be of one speaker, as a table"),
        details=(
            "Pairs that are each other's nearest neighbour in the encoder's whitened space, never of one recording;\n"
            "no labels are used. For `mates.table` of a pretraining: half the views may then come from the mate."
        ),
        example="dino-speech mates --encoder untrained:results/dino/encoder --manifest train.csv --output mates.csv",
    )
    add_options(parser, "--encoder", "--manifest", "--where", "--device")
    parser.add_argument("--output", metavar="CSV", type=OutputFile, required=True, help="columns ID, mate, similarity")
    share = "of the utterances get a mate at most, the nearest (%(default)s)"
    parser.add_argument("--coverage", type=float, default=0.3, metavar="S", help=share)
    parser.add_argument("--same", metavar="COLUMN", help="mates share its value, e.g. that of schedule.batch_by")
    _add_shrinkage(parser)


def _add_several(parser: argparse.ArgumentParser) -> None:
    add_options(parser, "--encoder", nargs="+", help="two or more folders of encoders")
    add_options(parser, "--output", required=True, help="folder of the new encoder")
    parser.add_argument("--manifest", **MANIFESTS, help="whiten by these recordings")
    add_options(parser, "--where", "--device")
    _add_shrinkage(parser)


def _add_shrinkage(parser: argparse.ArgumentParser) -> None:
    shrinkage = "of the whitening, 0 to 1 (%(default)s)"
    parser.add_argument("--shrinkage", type=float, default=0.001, metavar="S", help=shrinkage)


def _average(arguments: argparse.Namespace) -> Answer:
    from dino_speech import average_encoders, load_encoder
    from dino_speech.dino.whiten import whiten

    manifest, device = read_chosen_manifest(arguments), choose_device(arguments.device)
    averaged = average_encoders([load_encoder(source, device=device) for source in arguments.encoder])
    skipped: list[Skipped] = []
    if manifest is not None:
        skipped = whiten(averaged, manifest, len(manifest), arguments.shrinkage, seed=0)
    folder = averaged.save(arguments.output)
    data = {"encoder": str(folder), "embedding_dim": averaged.embedding_dim, "parts": list(arguments.encoder)}
    return Answer({**data, **left_out(skipped)}, f"the mean of {len(arguments.encoder)} encoders: {folder}")


def _mates(arguments: argparse.Namespace) -> Answer:
    from dino_speech import find_mates
    from dino_speech.data.loading.mates import write_mates

    manifest, encoder = read_chosen_manifest(arguments), load_chosen_encoder(arguments)
    assert manifest is not None  # --manifest is required
    found = find_mates(encoder, manifest, progress=True, **chosen(arguments, "coverage", "same", "shrinkage"))
    path = write_mates(found.pairs, arguments.output)
    data = {"output": str(path), "num_utterances": len(manifest), "num_pairs": len(found.pairs), **found.figures}
    shown = table([(name, value) for name, value in found.figures.items()])
    return Answer({**data, **left_out(found.skipped)}, f"{len(found.pairs)} pairs: {path}\n{shown}")


def _join(arguments: argparse.Namespace) -> Answer:
    from dino_speech import join_encoders, load_encoder
    from dino_speech.dino.whiten import whiten

    manifest, device = read_chosen_manifest(arguments), choose_device(arguments.device)
    encoders = [load_encoder(source, device=device) for source in arguments.encoder]
    skipped: dict[str, Skipped] = {}
    for encoder in encoders:
        if manifest is not None and encoder.whitening is None:
            failures = whiten(encoder, manifest, len(manifest), arguments.shrinkage, seed=0)
            skipped |= {item.name: item for item in failures}
    joined = join_encoders(encoders)
    folder = joined.save(arguments.output)
    data = {"encoder": str(folder), "embedding_dim": joined.embedding_dim, "parts": list(arguments.encoder)}
    text = f"{len(encoders)} encoders, {joined.embedding_dim} dimensions: {folder}"
    return Answer({**data, **left_out(list(skipped.values()))}, text)
