"""`dino-speech compare`: several encoders, one table."""

import argparse
import sys
from pathlib import Path

from dino_speech.cli.answer import Answer
from dino_speech.cli.parsing import ENCODER_HELP, Subparsers, add_command, add_manifest, choose_device, positive_int

NUM_READING_THREADS = 2
NUM_SHOWN = 20
CHOICES = ("all", "quick", "none")


def add_commands(subparsers: Subparsers) -> None:
    """Declare the commands of this file."""
    parser = add_command(
        subparsers,
        "compare",
        _compare,
        summary="encoders side by side: figures, robustness, fairness and cost as one table",
        details=(
            "One row per encoder, on the same utterances and folds, held against a floor. Writes table.md, table.csv,\n"
            "report.md, report.json and a picture to OUTPUT. Finished parts are kept: the same command goes on where\n"
            "it was stopped, and with more encoders or perturbations computes only what is new."
        ),
        example="dino-speech compare --encoder results/dino/encoder results/xvector/encoder fbank_stats"
        " --manifest labelled.csv --label emotion --output results/comparison",
    )
    parser.add_argument(
        "--encoder",
        metavar="[NAME=]DIR",
        required=True,
        nargs="+",
        action="extend",
        help=f"{ENCODER_HELP}; named by their folders where no NAME is given",
    )
    parser.add_argument("--device", help="cpu, cuda, cuda:N (default: a GPU where there is one)")
    add_manifest(parser)
    parser.add_argument("--label", metavar="NAME", help="column of classes: UAR of a linear probe")
    parser.add_argument("--labels", metavar="A,B,C", help="columns of numbers: CCC of each, and their mean")
    parser.add_argument("--trials", metavar="TXT", help="list of trials: EER of cosine scores")
    parser.add_argument("--group", metavar="NAME", help="column of groups (default: sex, where there is one)")
    parser.add_argument("--floor", metavar="NAME", default="fbank_stats", help="row to hold against (%(default)s)")
    parser.add_argument(
        "--perturbations",
        metavar="A,B",
        default="all",
        help=f"{', '.join(CHOICES)}; or names or kinds, such as gain,white_noise_10db (default: all, some forty passes"
        " over the audio; quick: six)",
    )
    parser.add_argument("--noise", metavar="DIR", help="folder or manifest of recorded noise, music, speech to add")
    parser.add_argument("--rir", metavar="DIR", help="folder or manifest of room responses (default: synthetic rooms)")
    parser.add_argument(
        "--num-folds", "--folds", type=positive_int, metavar="N", help="default: 5, or the speakers where fewer"
    )
    parser.add_argument(
        "--num-resamples", type=positive_int, default=1000, metavar="N", help="of the bootstrap (default: %(default)s)"
    )
    parser.add_argument("--seconds", type=float, default=10.0, help="of a wave, for the cost (default: %(default)s)")
    parser.add_argument("--threads", type=positive_int, help="of the CPU, for the cost (default: as PyTorch chooses)")
    parser.add_argument("--seed", type=int, default=0, help="of folds, intervals and conditions (default: %(default)s)")
    parser.add_argument("--output", metavar="DIR", required=True, help="folder of the tables and finished parts")
    parser.add_argument("--restart", action="store_true", help="compute finished parts anew")


def _compare(arguments: argparse.Namespace) -> Answer:
    from dino_speech import compare_encoders, read_manifest

    chosen = arguments.perturbations
    found = compare_encoders(
        arguments.encoder,
        read_manifest(arguments.manifest, where=dict(arguments.where)),
        output_folder=arguments.output,
        label=arguments.label,
        labels=_names(arguments.labels or ""),
        trials=arguments.trials,
        group=arguments.group,
        floor=arguments.floor,
        perturbations=chosen if chosen in CHOICES else _names(chosen),
        noise=arguments.noise,
        rir=arguments.rir,
        num_folds=arguments.num_folds,
        num_resamples=arguments.num_resamples,
        seconds=arguments.seconds,
        num_threads=arguments.threads,
        seed=arguments.seed,
        device=choose_device(arguments.device),
        resume=not arguments.restart,
        num_workers=NUM_READING_THREADS,
        progress=sys.stderr.isatty(),
    )
    for item in found.skipped[:NUM_SHOWN]:
        print(f"left out for all: {item.name}: {item.reason}", file=sys.stderr)
    where = "\n".join(f"{name}: {path}" for name, path in found.files.items())
    return Answer(found.to_dict(), f"{Path(found.files['table']).read_text(encoding='utf-8')}\n{where}")


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",") if name.strip()]
