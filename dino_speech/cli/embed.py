"""`dino-speech embed` and `dino-speech verify`: what an encoder says of files."""

import argparse
import os
import sys
from pathlib import Path

from dino_speech.cli.answer import Answer, name_skipped, table
from dino_speech.cli.parsing import Subparsers, add_command, add_encoder, load_chosen_encoder, positive_int


def add_commands(subparsers: Subparsers) -> None:
    """Declare the commands of this file."""
    parser = add_command(
        subparsers,
        "embed",
        _embed,
        summary="one vector per utterance, into an npz file, or part by part into a folder",
        details=(
            "The npz holds `ids` (N,) and `embeddings` (N, D) float32. The ID of a file in a folder is its path\n"
            "relative to the folder, that of a manifest's row its ID, that of a single file the path as given.\n"
            "Files that cannot be read are listed and left out; exit code 1 if none can.\n\n"
            "For many files give a folder: parts are written as the work goes on, the same command goes on after a\n"
            "kill, and several GPUs share the work:\n"
            "torchrun --nproc-per-node=8 -m -- dino_speech embed INPUT ... --encoder DIR --output DIR/\n"
            "Python's dino_speech.read_embeddings reads both."
        ),
        example="dino-speech embed recordings/ --encoder results/dino/encoder --output recordings.npz",
    )
    parser.add_argument("inputs", metavar="INPUT", nargs="+", help="files, folders, manifests (CSV) or shards")
    add_encoder(parser)
    parser.add_argument(
        "--output", metavar="FILE.npz|DIR", required=True, help="where the embeddings go: one npz file, or a folder"
    )
    parser.add_argument("--part-size", type=positive_int, help="utterances per part of a folder (default: 10000)")
    parser.add_argument("--num-workers", type=positive_int, default=2, help="threads that read (default: %(default)s)")
    parser.add_argument(
        "--precision",
        choices=("auto", "bf16", "fp16", "fp32"),
        default="fp32",
        help="of the network (default: %(default)s); auto: bf16 where the device is fast at it",
    )
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
    options = {"num_workers": arguments.num_workers, "progress": sys.stderr.isatty(), "precision": arguments.precision}
    if _is_folder(arguments.output):
        from dino_speech.distributed import join_processes
        from dino_speech.embedding.to_folder import PART_SIZE, embed_to_folder

        if "RANK" in os.environ:
            arguments.device = str(join_processes(arguments.device))
        options["part_size"] = arguments.part_size or PART_SIZE
        report = embed_to_folder(arguments.inputs, load_chosen_encoder(arguments), arguments.output, **options)
    else:
        from dino_speech.embedding.to_file import embed_to_file
        from dino_speech.errors import InputError

        if arguments.part_size or int(os.environ.get("WORLD_SIZE", 1)) > 1:
            raise InputError(
                f"--output {arguments.output}: parts, and several processes, need a folder, not an npz file"
            )
        report = embed_to_file(arguments.inputs, load_chosen_encoder(arguments), arguments.output, **options)
    name_skipped(report.skipped)
    return Answer(
        {**report.to_dict(), "encoder": arguments.encoder},
        f"{report.num_embedded} embeddings of {report.embedding_dim} dimensions in {report.output}"
        + (f"; {len(report.skipped)} files skipped" if report.skipped else ""),
    )


def _is_folder(output: str) -> bool:
    return output.endswith(("/", os.sep)) or not Path(output).suffix or Path(output).is_dir()


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
