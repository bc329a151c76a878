"""`dino-speech embed` and `dino-speech verify`: what an encoder says of files."""

import argparse
import sys

from dino_speech.cli.answer import Answer, table
from dino_speech.cli.parsing import Subparsers, add_command, add_encoder, load_chosen_encoder

NUM_SHOWN = 20


def add_commands(subparsers: Subparsers) -> None:
    """Declare the commands of this file."""
    parser = add_command(
        subparsers,
        "embed",
        _embed,
        summary="one vector per utterance, into an npz file",
        details=(
            "The npz holds `ids` (N,) and `embeddings` (N, D) float32. The ID of a file in a folder is its path\n"
            "relative to the folder, that of a manifest's row its ID, that of a single file the path as given.\n"
            "Files that cannot be read are listed and left out; exit code 1 if none can."
        ),
        example="dino-speech embed recordings/ --encoder results/dino/encoder --output recordings.npz",
    )
    parser.add_argument("inputs", metavar="INPUT", nargs="+", help="files, folders or manifests (CSV)")
    add_encoder(parser)
    parser.add_argument("--output", metavar="FILE.npz", required=True, help="where the embeddings go")
    parser = add_command(
        subparsers,
        "verify",
        _verify,
        summary="does the same person speak in both files?",
        details="Prints the cosine of the two embeddings; a decision needs a threshold, which depends on the encoder.",
        example="dino-speech verify a.wav b.wav --encoder results/dino/encoder --threshold 0.31",
    )
    parser.add_argument("a", metavar="A", help="one recording")
    parser.add_argument("b", metavar="B", help="the other")
    add_encoder(parser)
    parser.add_argument("--threshold", type=float, help="scores of at least this mean the same speaker")


def _embed(arguments: argparse.Namespace) -> Answer:
    from dino_speech.evaluation.npz import embed_to_file

    report = embed_to_file(
        arguments.inputs, load_chosen_encoder(arguments), arguments.output, progress=sys.stderr.isatty()
    )
    for item in report.skipped[:NUM_SHOWN]:
        print(f"skipped {item.name}: {item.reason}", file=sys.stderr)
    if len(report.skipped) > NUM_SHOWN:
        print(f"... and {len(report.skipped) - NUM_SHOWN} more (--json lists all)", file=sys.stderr)
    return Answer(
        {**report.to_dict(), "encoder": arguments.encoder},
        f"{report.num_embedded} embeddings of {report.embedding_dim} dimensions in {report.output}"
        + (f"; {len(report.skipped)} files skipped" if report.skipped else ""),
    )


def _verify(arguments: argparse.Namespace) -> Answer:
    from dino_speech import Verifier

    verifier = Verifier(load_chosen_encoder(arguments), threshold=arguments.threshold)
    decision = verifier.compare_files(arguments.a, arguments.b)
    data = {
        "score": decision.score,
        "same_speaker": decision.same_speaker,
        "threshold": arguments.threshold,
        "encoder": arguments.encoder,
    }
    verdict = {None: "not decided: give --threshold", True: "same speaker", False: "different speakers"}
    return Answer(data, table([("score", decision.score), ("decision", verdict[decision.same_speaker])]))
