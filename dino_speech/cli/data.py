"""`dino-speech prepare`, `check` and `shard`: from a corpus on disk to manifests, bad files, tar shards."""

import argparse
from functools import partial
from pathlib import Path

from dino_speech.cli.answer import NUM_SHOWN, Answer, left_out, short, table
from dino_speech.cli.options import Subparsers, add_command, add_options, chosen
from dino_speech.data.corpora.catalogue import CORPORA
from dino_speech.data.in_threads import watched
from dino_speech.errors import UsageError


def add_commands(subparsers: Subparsers) -> None:
    """Declare the commands of this file."""
    parser = add_command(
        *(subparsers, "prepare", _prepare, "corpus on disk -> manifest with labels and splits, trials"),
        details=(
            "folder: any folder of audio. All others: the corpus's own tree, as its owners give it out; what is"
            " missing, extra or left out is listed beside the manifest; a speaker on two sides of a split is refused"
            " (msp-podcast: left out of what is learnt from, and counted)."
        ),
        example="dino-speech prepare voxceleb1 /corpora/VoxCeleb1 --output data/voxceleb1",
    )
    parser.add_argument("corpus", metavar="CORPUS", choices=sorted(CORPORA), help=", ".join(sorted(CORPORA)))
    parser.add_argument("source", metavar="SOURCE", help="folder of the corpus")
    add_options(parser, "--output", required=True, help="where manifests and trials go")
    add_options(parser, "--speaker-from-parent")
    keep = "msp-podcast: keep speakers of the tests in train and dev too, instead of leaving them out there"
    parser.add_argument("--keep-shared-speakers", action="store_true", help=keep)
    parser = add_command(
        *(subparsers, "check", _check, "decode and judge every file; list what is wrong and why"),
        details="Exit code 0 also with findings (training skips such files); 1 if no file can be used.",
        example="dino-speech check data/train.csv",
    )
    parser.add_argument("source", metavar="MANIFEST", help="a manifest (CSV), or a folder")
    parser.add_argument("--min-s", type=float, default=0.4, metavar="S", help="shorter cannot be used (%(default)s)")
    add_options(parser, "--num-threads")
    parser.add_argument("--all", action="store_true", help=f"print every finding, not {NUM_SHOWN} of each kind")
    parser = add_command(
        *(subparsers, "shard", _shard, "many small files -> a few tar shards, for cluster storage"),
        details=(
            "DIR gets shard-000000.tar, ... (webdataset's format), manifest.csv (which training, embed, check and\n"
            "evaluate take as any manifest, without unpacking), index.json, and failures.csv if files cannot be read.\n"
            "After a kill the same command goes on at the last whole shard."
        ),
        example="dino-speech shard data/train.csv --output /scratch/train-shards",
    )
    parser.add_argument("source", metavar="MANIFEST", help="a manifest (CSV), or a folder")
    add_options(parser, "--output", required=True, help="where the shards go")
    parser.add_argument("--shard-mb", type=float, default=256, help="millions of bytes per shard (%(default)s)")
    codec = "flac: mono, 16 kHz, 16 bits; as-found: copy whole files as they are (%(default)s)"
    parser.add_argument("--codec", choices=("flac", "as-found"), default="flac", help=codec)
    add_options(parser, "--num-threads")


def _prepare(arguments: argparse.Namespace) -> Answer:
    from dino_speech.data.corpora.preparing import prepare
    from dino_speech.data.utterances import Skipped

    options = {}
    if arguments.speaker_from_parent:
        if arguments.corpus != "folder":
            raise UsageError("--speaker-from-parent: only for the corpus `folder`; this corpus says itself who speaks")
        options["speaker_from_parent"] = True
    if arguments.keep_shared_speakers:
        if not getattr(CORPORA[arguments.corpus], "gives_way", ()):
            raise UsageError("--keep-shared-speakers: only for msp-podcast, whose owners' splits may share speakers")
        options["keep_shared_speakers"] = True
    summary = prepare(arguments.corpus, arguments.source, arguments.output, **options)
    rows = [(key, short(value)) for key, value in summary.items()]
    cut = [key for key, value in summary.items() if isinstance(value, list) and len(value) > 3]
    rows += [(f"all {key}", f"{arguments.output}/{key}.txt") for key in cut]
    skipped = [item.partition(": ") for key in ("dropped", "unreadable") for item in summary.get(key, ())]
    return Answer({**summary, **left_out([Skipped(name, why) for name, _, why in skipped], tell=False)}, table(rows))


def _check(arguments: argparse.Namespace) -> Answer:
    from dino_speech.data.checking import check_audio_files

    report = check_audio_files(
        arguments.source, **chosen(arguments, "min_s", "num_threads"), progress=partial(watched, what="checking")
    )
    lines = [f"{report.num_usable} of {report.num_files} files can be used ({report.hours:.2f} h)"]
    for title, findings in (("cannot be used", report.unusable), ("remarks", report.remarks)):
        shown = findings if arguments.all else findings[:NUM_SHOWN]
        if findings:
            lines += ["", f"{title} ({len(findings)})", table([(f.verdict, f.name, f.reason) for f in shown])]
            lines += [f"... {len(findings) - len(shown)} more: --all"] if len(shown) < len(findings) else []
    data = {"source": str(Path(arguments.source)), **report.to_dict(), **left_out(report.unusable, tell=False)}
    return Answer(data, "\n".join(lines), 0 if report.num_usable else 1)


def _shard(arguments: argparse.Namespace) -> Answer:
    from dino_speech.data.shards.writing import write_shards

    options = chosen(arguments, "shard_mb", "codec", "num_threads")
    report = write_shards(arguments.source, arguments.output, **options, progress=partial(watched, what="writing"))
    data = report.to_dict()
    shown = {key: short(value) for key, value in data.items() if key not in ("failures", "num_failures")}
    data |= left_out(report.failures)
    return Answer(data, table([*shown.items(), ("num_skipped", len(report.failures))]))
