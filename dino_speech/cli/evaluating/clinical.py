"""`dino-speech evaluate clinical` and `split-speech`: a clinical question, and the silence that may answer it."""

import argparse
import sys
from typing import TYPE_CHECKING

from dino_speech.cli.answer import Answer, left_out, table
from dino_speech.cli.evaluating.judging import add_judging, answer, judge
from dino_speech.cli.options import OutputFolder, Subparsers, add_command, add_options, chosen
from dino_speech.errors import UsageError

if TYPE_CHECKING:
    from dino_speech.evaluation.clinical.report import ClinicalReport
    from dino_speech.evaluation.clinical.subject_scores import SubjectResult

FIGURES = ("AUC", "accuracy", "UAR", "F1", "sensitivity", "specificity")


def add_commands(subparsers: Subparsers) -> None:
    """Declare the command of this file; the evaluation is declared in `evaluate.py`."""
    parser = add_command(
        *(
            subparsers,
            "split-speech",
            _split,
            "the parts of recordings in which nobody speaks, or somebody does, as recordings of their own",
        ),
        details=(
            "Leaves wavs (16 kHz, 32-bit float: the very samples), manifest.csv (same IDs and labels) and parts.csv\n"
            "(seconds of each recording). Recordings with too little of the part are listed. The same command goes on\n"
            "where a run was stopped."
        ),
        example="dino-speech split-speech clinic.csv --output data/silence --label diagnosis --positive ad",
    )
    parser.add_argument("manifest", metavar="MANIFEST", help="a manifest (CSV)")
    add_options(parser, "--output", required=True, help="a new folder, or that of a stopped run")
    parser.add_argument("--part", choices=("nonspeech", "speech"), default="nonspeech", help="which (%(default)s)")
    add_options(parser, "--vad", "--num-threads")
    parser.add_argument("--margin-s", type=float, default=0.1, metavar="S", help="non-speech is so far from speech")
    parser.add_argument("--min-s", type=float, default=0.5, metavar="S", help="less is not written (%(default)s)")
    add_options(parser, "--label", help="also count what is missing by this column's classes")
    parser.add_argument("--positive", metavar="VALUE", help="also the AUC of the share of non-speech for this class")


def add_kind(kinds: Subparsers) -> None:
    """Declare `evaluate clinical`."""
    parser = add_judging(
        *(
            kinds,
            "clinical",
            _evaluate,
            "two groups of people told apart by their recordings, with the silence control",
        ),
        details="Segments' log-odds are averaged by person. Beside the figures: the same on the recordings' silent"
        " parts,\nwhat the share of pauses and the length tell alone, age and sex. Not a diagnosis.",
        example="clinic.csv --label diagnosis --positive ad --segment-s 5",
    )
    add_options(parser, "--label", required=True, help="column of the diagnosis")
    parser.add_argument("--positive", metavar="VALUE", required=True, help="the diagnosis to be found")
    parser.add_argument("--negative", metavar="VALUE", help="what it is told from (default: all others)")
    parser.add_argument("--subject", metavar="COLUMN", default="speaker", help="column of the people (%(default)s)")
    group = parser.add_mutually_exclusive_group()
    add_options(group, "--folds", help="default: 5, or the people where fewer")
    add_options(group, "--fold-column")
    group.add_argument("--split", metavar="COLUMN", help="official split: learn from `train`, judge `test`")
    parser.add_argument("--segment-s", type=float, metavar="S", help="cut recordings into segments (default: whole)")
    add_options(parser, "--vad")
    parser.add_argument("--no-silence-control", action="store_true", help="leave the control out")
    keep = "keep the non-speech parts here (default: removed)"
    parser.add_argument("--control-folder", type=OutputFolder, metavar="DIR", help=keep)


def _evaluate(arguments: argparse.Namespace) -> Answer:
    from dino_speech import evaluate_clinical

    names = ("label", "positive", "negative", "subject", "fold_column", "split", "segment_s", "vad", "control_folder")
    options = {"num_folds": arguments.folds, "silence_control": not arguments.no_silence_control}
    report = judge(evaluate_clinical, arguments, **chosen(arguments, *names), **options)
    return answer(report, _text(report), arguments, report.write)


def _text(report: "ClinicalReport") -> str:
    silence = report.silence.result if report.silence else None
    same = report.silence.same_people if report.silence else None
    columns = [result for result in (report.result, silence, same) if result is not None]
    header = ["", "recordings", "silence alone", "recordings, same people"][: 1 + len(columns)]
    rows = [(title, *(_figure(result, title.lower()) for result in columns)) for title in FIGURES]
    rows.append(("people", *(f"{result.num_subjects}, {result.num_positive} positive" for result in columns)))
    lines = [table(rows, header=header)]
    if report.warnings():
        lines += ["", *(f"! {text}" for text in report.warnings())]
    return "\n".join([*lines, "", "Not a diagnosis."])


def _figure(result: "SubjectResult", name: str) -> str:
    interval = result.intervals[name]
    return f"{result.figures[name]:.3f} ({interval.low:.3f} to {interval.high:.3f})"


def _split(arguments: argparse.Namespace) -> Answer:
    from dino_speech import read_manifest
    from dino_speech.data.silence import write_nonspeech

    if arguments.positive and not arguments.label:
        raise UsageError("--positive: needs --label, the column that it is a value of")
    manifest = read_manifest(arguments.manifest)
    if arguments.label:
        manifest.label(arguments.label)  # a misspelt column is told before the work
    options = chosen(arguments, "part", "vad", "margin_s", "min_s", "num_threads")
    parts = write_nonspeech(manifest, arguments.output, **options, progress=sys.stderr.isatty())
    data = {**parts.to_dict(), **left_out(parts.skipped)}
    rows: list[tuple[object, ...]] = [
        ("recordings", data["num_recordings"], f"{len(parts.skipped)} skipped"),
        ("written", data["num_written"], f"{data['hours_written']:.2f} h of {arguments.part}"),
        ("too little of it", data["num_missing"], "see parts.csv"),
        ("share of non-speech", data["nonspeech_fraction"], "mean"),
    ]
    if arguments.label:
        data["missing_by_class"] = parts.missing_by_class(arguments.label)
        rows += [
            (f"too little: {name or 'blank'}", n, f"of {of}") for name, (n, of) in data["missing_by_class"].items()
        ]
    if arguments.positive:
        data["nonspeech_fraction_auc"] = parts.fraction_auc(arguments.label, arguments.positive)
        rows.append(
            ("AUC of that share", data["nonspeech_fraction_auc"], f"for {arguments.positive}; 0.5: tells nothing")
        )
    return Answer(data, table(rows))
