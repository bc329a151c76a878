"""`dino-speech prepare`, `check` and `shard`: from a corpus on disk to manifests, bad files, tar shards."""

import argparse
from pathlib import Path

from dino_speech.cli.answer import Answer, table
from dino_speech.cli.parsing import Subparsers, add_command, positive_int
from dino_speech.cli.progress import progress
from dino_speech.data.corpora.catalogue import CORPORA, prepare

NUM_SHOWN = 20


def add_commands(subparsers: Subparsers) -> None:
    """Declare the commands of this file."""
    parser = add_command(
        subparsers,
        "prepare",
        _prepare,
        summary="corpus on disk -> manifest with labels and splits, trials",
        details=(
            "folder: any folder of audio. All others: the corpus's own tree, as its owners give it out; what is"
            " missing, extra or left out is listed beside the manifest; a speaker on two sides of a split is refused."
        ),
        example="dino-speech prepare voxceleb1 /corpora/VoxCeleb1 --output data/voxceleb1",
    )
    parser.add_argument("corpus", metavar="CORPUS", choices=sorted(CORPORA), help=", ".join(sorted(CORPORA)))
    parser.add_argument("source", metavar="SOURCE", help="folder of the corpus")
    parser.add_argument("--output", metavar="DIR", required=True, help="where manifests and trials go")
    parser.add_argument(
        "--speaker-from-parent", action="store_true", help="corpus `folder` only: a file's folder is its speaker"
    )
    parser = add_command(
        subparsers,
        "check",
        _check,
        summary="decode and judge every file; list what is wrong and why",
        details="Exit code 0 also with findings (training skips such files); 1 if no file can be used.",
        example="dino-speech check data/train.csv",
    )
    parser.add_argument("source", metavar="MANIFEST", help="a manifest (CSV), or a folder")
    parser.add_argument("--min-s", type=float, default=0.4, help="shorter files cannot be used (default: %(default)s)")
    parser.add_argument("--num-threads", type=positive_int, default=4, help="files at a time (default: %(default)s)")
    parser.add_argument("--all", action="store_true", help=f"print every finding, not {NUM_SHOWN} of each kind")
    parser = add_command(
        subparsers,
        "shard",
        _shard,
        summary="many small files -> a few tar shards, for cluster storage",
        details=(
            "DIR gets shard-000000.tar, ... (webdataset's format), manifest.csv (which training, embed, check and\n"
            "evaluate take as any manifest, without unpacking), index.json, and failures.csv if files cannot be read.\n"
            "After a kill the same command goes on at the last whole shard."
        ),
        example="dino-speech shard data/train.csv --output /scratch/train-shards",
    )
    parser.add_argument("source", metavar="MANIFEST", help="a manifest (CSV), or a folder")
    parser.add_argument("--output", metavar="DIR", required=True, help="where the shards go")
    parser.add_argument(
        "--shard-mb", type=float, default=256, help="millions of bytes per shard (default: %(default)s)"
    )
    parser.add_argument(
        "--codec",
        choices=("flac", "as-found"),
        default="flac",
        help="flac: mono, 16 kHz, 16 bits; as-found: copy whole files as they are (default: %(default)s)",
    )
    parser.add_argument("--num-threads", type=positive_int, default=4, help="files at a time (default: %(default)s)")


def _prepare(arguments: argparse.Namespace) -> Answer:
    options = {"speaker_from_parent": True} if arguments.speaker_from_parent else {}
    if options and arguments.corpus != "folder":
        from dino_speech.errors import InputError

        raise InputError("--speaker-from-parent: only for the corpus `folder`; this corpus says itself who speaks")
    summary = prepare(arguments.corpus, arguments.source, arguments.output, **options)
    rows = [(key, _short(value)) for key, value in summary.items()]
    rows += [(f"all {key}", f"{arguments.output}/{key}.txt") for key, value in summary.items() if _is_cut(value)]
    return Answer(summary, table(rows))


def _is_cut(value: object) -> bool:
    """Whether `_short` shows a part of a list only."""
    return isinstance(value, list) and len(value) > 3


def _short(value: object) -> object:
    if isinstance(value, dict):
        return ", ".join(f"{key}: {_short(item)}" for key, item in value.items()) or "none"
    if isinstance(value, (list, tuple)):
        return f"{len(value)}: {', '.join(map(str, value[:3]))}{' ...' if len(value) > 3 else ''}" if value else "none"
    return value


def _check(arguments: argparse.Namespace) -> Answer:
    from dino_speech.data.checking import check_audio_files

    report = check_audio_files(
        arguments.source,
        min_s=arguments.min_s,
        num_threads=arguments.num_threads,
        progress=lambda items, total: progress(items, total, "checking"),
    )
    lines = [f"{report.num_usable} of {report.num_files} files can be used ({report.hours:.2f} h)"]
    for title, findings in (("cannot be used", report.unusable), ("remarks", report.remarks)):
        shown = findings if arguments.all else findings[:NUM_SHOWN]
        if findings:
            lines += ["", f"{title} ({len(findings)})", table([(f.verdict, f.name, f.reason) for f in shown])]
            lines += [f"... {len(findings) - len(shown)} more: --all"] if len(shown) < len(findings) else []
    source = Path(arguments.source)
    return Answer({"source": str(source), **report.to_dict()}, "\n".join(lines), 0 if report.num_usable else 1)


def _shard(arguments: argparse.Namespace) -> Answer:
    from dino_speech.data.shards.writing import write_shards

    report = write_shards(
        arguments.source,
        arguments.output,
        shard_mb=arguments.shard_mb,
        codec=arguments.codec,
        num_threads=arguments.num_threads,
        progress=lambda items, total: progress(items, total, "writing"),
    )
    data = report.to_dict()
    rows = [(key, _short(value)) for key, value in data.items() if key != "failures"]
    rows += [("failure", f"{item.name}: {item.reason}") for item in report.failures[:NUM_SHOWN]]
    return Answer(data, table(rows))
