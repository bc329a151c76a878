"""`dino-speech predict`, `embed` and `verify`: what a system or an encoder says of recordings."""

import argparse
import os
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dino_speech.cli.answer import Answer, left_out, table
from dino_speech.cli.options import (
    NUM_READING_THREADS,
    OutputFile,
    OutputFolder,
    Subparsers,
    add_command,
    add_options,
    choose_device,
    chosen,
    load_chosen_encoder,
    positive_int,
)
from dino_speech.errors import InputError, UsageError

if TYPE_CHECKING:
    from dino_speech.transfer.system import Predictions


def add_commands(subparsers: Subparsers) -> None:
    """Declare the commands of this file."""
    parser = add_command(
        *(subparsers, "predict", _predict, "what a fine-tuned system says of recordings"),
        details=(
            "Long recordings are decided by segments, as the system was told when it was fine-tuned.\n"
            "A system that a text joins takes it from the manifest's column, or from --text."
        ),
        example="dino-speech predict recordings/ --system results/emotion/system --output predictions.csv",
    )
    parser.add_argument("inputs", metavar="INPUT", nargs="+", help="files, folders or manifests (CSV)")
    parser.add_argument("--system", metavar="DIR", required=True, help="folder of a system, as finetune leaves it")
    add_options(parser, "--device")
    add_options(parser, "--output", type=OutputFile, metavar="CSV", help="write one row per recording")
    parser.add_argument("--text", help="what is said in the one recording, for a system that a text joins")
    parser = add_command(
        *(subparsers, "embed", _embed, "one vector per utterance, into one file, or part by part into a folder"),
        details=(
            "An .npz holds `ids` (N,) and `embeddings` (N, D) float32; a .csv and a .parquet (needs pyarrow) the\n"
            "columns ID, embedding_0, ... The ID of a file in a folder is its path relative to the folder (behind the\n"
            "end of the folder's path where folders hold equal names), that of a manifest's row its ID, that of a\n"
            "single file the path as given.\n"
            "Files that cannot be read are listed and left out; exit code 1 if none can.\n\n"
            "For many files give a folder: parts are written as the work goes on, the same command goes on after a\n"
            "kill, and several GPUs share the work:\n"
            "torchrun --nproc-per-node=8 -m -- dino_speech embed INPUT ... --encoder DIR --output DIR/\n"
            "Python's dino_speech.read_embeddings reads them all."
        ),
        example="dino-speech embed recordings/ --encoder results/dino/encoder --output recordings.npz",
    )
    parser.add_argument("inputs", metavar="INPUT", nargs="+", help="files, folders, manifests (CSV) or shards")
    add_options(parser, "--encoder", "--device")
    output = "one file (.npz, .csv, .parquet), or a folder of parts"
    add_options(parser, "--output", type=_file_or_folder, metavar="FILE|DIR", required=True, help=output)
    part_size = "utterances per part of a folder (default: 10000)"
    parser.add_argument("--part-size", type=positive_int, metavar="N", help=part_size)
    add_options(parser, "--num-threads", default=NUM_READING_THREADS)
    longest = "longer files are refused (default: 1800; wav2vec 2.0 and its kin: 300)"
    parser.add_argument("--max-s", type=float, metavar="S", help=longest)
    precision = "of the network (default: %(default)s); auto: bf16 where the device is fast at it"
    parser.add_argument("--precision", choices=("auto", "bf16", "fp16", "fp32"), default="fp32", help=precision)
    parser = add_command(
        *(subparsers, "verify", _verify, "does the same person speak in both files?"),
        details="Prints the cosine of the two embeddings; a decision needs a threshold, which depends on the encoder.",
        example="dino-speech verify a.wav b.wav --encoder results/dino/encoder --threshold 0.31",
    )
    parser.add_argument("a", metavar="A", help="one recording")
    parser.add_argument("b", metavar="B", help="the other")
    add_options(parser, "--encoder", "--device")
    parser.add_argument("--threshold", type=float, help="scores of at least this mean the same speaker")


def _predict(arguments: argparse.Namespace) -> Answer:
    from dino_speech.data.atomic import write_csv_atomically
    from dino_speech.data.utterances import list_some
    from dino_speech.embedding.inputs import collect
    from dino_speech.transfer.audio_text.system import AudioTextSystem, load_system

    system = load_system(arguments.system, device=choose_device(arguments.device))
    manifest = collect(arguments.inputs)
    further: dict[str, Any] = {}
    if arguments.text is not None:
        if not isinstance(system, AudioTextSystem) or system.transcript is None:
            raise UsageError(f"--text: no text joins the system in {arguments.system}; leave it out")
        if len(manifest) != 1:
            raise UsageError(f"--text: one text, but {len(manifest)} recordings; give a manifest with their texts")
        further["texts"] = [arguments.text]
    found = system.predict(list(manifest), num_workers=NUM_READING_THREADS, progress=sys.stderr.isatty(), **further)
    skipped = [*manifest.skipped, *found.skipped]
    if not found.ids:
        reasons = list_some([f"{item.name}: {item.reason}" for item in skipped])
        raise InputError(f"none of {len(skipped)} files could be predicted ({reasons})")
    rows = list(_rows(found))
    if arguments.output:
        Path(arguments.output).parent.mkdir(parents=True, exist_ok=True)
        write_csv_atomically(Path(arguments.output), rows)
    data = {
        "predictions": rows,
        "classes": found.classes,
        "dimensions": found.dimensions,
        "rule": found.rule,
        "num_predicted": len(rows),
        **left_out(skipped),
        "output": arguments.output,
        "system": arguments.system,
    }
    if arguments.output:
        return Answer(data, f"{len(rows)} predictions in {arguments.output}; {len(skipped)} files skipped")
    return Answer(data, table([tuple(row.values()) for row in rows], header=list(rows[0])))


def _rows(found: "Predictions") -> Iterable[dict[str, Any]]:
    """One row per recording: ID, label, and the probability of each class; or ID and the value of each dimension."""
    for number, name in enumerate(found.ids):
        row: dict[str, Any] = {"ID": name}
        if found.labels:
            row["label"] = found.labels[number]
        figures = found.probabilities if found.labels else found.values
        names = found.classes or found.dimensions
        yield row | {name: round(float(value), 6) for name, value in zip(names, figures[number], strict=True)}


def _embed(arguments: argparse.Namespace) -> Answer:
    options: dict[str, Any] = {"num_workers": arguments.num_threads, "progress": sys.stderr.isatty()}
    options |= chosen(arguments, "precision", "max_s")
    if not arguments.output.is_file:
        from dino_speech.distributed import join_processes
        from dino_speech.embedding.to_disk import PART_SIZE, embed_to_folder

        if "RANK" in os.environ:
            arguments.device = str(join_processes(arguments.device))
        options["part_size"] = arguments.part_size or PART_SIZE
        report = embed_to_folder(arguments.inputs, load_chosen_encoder(arguments), arguments.output, **options)
    else:
        from dino_speech.embedding.one_file import check_format
        from dino_speech.embedding.to_disk import embed_to_file

        check_format(Path(arguments.output))
        if arguments.part_size or int(os.environ.get("WORLD_SIZE", 1)) > 1:
            raise UsageError(f"--output {arguments.output}: parts, and several processes, need a folder, not a file")
        report = embed_to_file(arguments.inputs, load_chosen_encoder(arguments), arguments.output, **options)
    data = {**report.to_dict(), **left_out(report.skipped), "encoder": arguments.encoder}
    skipped = f"; {len(report.skipped)} files skipped" if report.skipped else ""
    found = f"{report.num_embedded} embeddings of {report.embedding_dim} dimensions in {report.output}"
    return Answer(data, found + skipped)


def _file_or_folder(output: str) -> OutputFolder:
    is_folder = output.endswith(("/", os.sep)) or not Path(output).suffix or Path(output).is_dir()
    return OutputFolder(output) if is_folder else OutputFile(output)


def _verify(arguments: argparse.Namespace) -> Answer:
    from dino_speech import Verifier

    verifier = Verifier(load_chosen_encoder(arguments), threshold=arguments.threshold)
    decision = verifier.compare_files(arguments.a, arguments.b)
    data = {"score": decision.score, "same_speaker": decision.same_speaker, **chosen(arguments, "threshold", "encoder")}
    verdict = {None: "not decided: give --threshold", True: "same speaker", False: "different speakers"}
    return Answer(data, table([("score", decision.score), ("decision", verdict[decision.same_speaker])]))
