"""The command `dino-speech`: which subcommands there are, and how their answers and failures come out.

Results go to stdout, progress and logs to stderr. Exit code 0: done; 1: failed; 2: misuse; 130, 138, 143: interrupted.
"""

import argparse
import logging
import os
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import FrameType

from dino_speech import __version__
from dino_speech.audio.urls import urls_agreed_to
from dino_speech.cli import data, encoders, quickstart, recipes, recordings
from dino_speech.cli.answer import Answer, as_json
from dino_speech.cli.evaluating import clinical, compare, evaluate
from dino_speech.cli.options import RECIPE_COMMANDS, MisuseError, OutputFolder, Parser, split_words
from dino_speech.data.outputs import check_output
from dino_speech.errors import InputError, UsageError

GROUPS = (quickstart, data, clinical, recipes, encoders, recordings, evaluate, compare)


def build_parser() -> Parser:
    """The parser of the whole command line."""
    parser = Parser(
        prog="dino-speech",
        description="Turn unlabelled speech into an encoder (one vector per utterance), and see what it is worth.",
        epilog="first steps:\n  dino-speech quickstart\n  dino-speech COMMAND --help",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"dino-speech {__version__}")
    subparsers = parser.add_subparsers(metavar="COMMAND", required=True, dest="command")
    for group in GROUPS:
        group.add_commands(subparsers)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the words after `dino-speech` (None: this process's own); the exit code.

    Raises:
        SystemExit: the words are no command line (code 2), or ask for help (0).
    """
    with _logs_to_stderr(), _sigterm_raises():
        arguments = _parse(list(sys.argv[1:] if argv is None else argv))
        with urls_agreed_to(arguments.allow_urls):
            return _run(arguments)


def _parse(words: list[str]) -> argparse.Namespace:
    try:
        ours, overrides = split_words(words)
        arguments = build_parser().parse_args(ours)
    except UsageError as error:
        if isinstance(error, MisuseError) and _prints():
            print(error.usage, end="", file=sys.stderr)
        raise SystemExit(_fail(str(error), 2, json="--json" in words)) from None
    arguments.overrides = overrides
    return arguments


def _run(arguments: argparse.Namespace) -> int:
    try:
        for output in (value for value in vars(arguments).values() if isinstance(value, OutputFolder)):
            check_output(output, is_file=output.is_file)
        answer: Answer = arguments.run(arguments)
    except (InputError, OSError) as error:
        return _fail(str(error), 2 if isinstance(error, UsageError) else 1, json=arguments.json)
    except KeyboardInterrupt:
        return _fail("interrupted", 128 + signal.SIGINT, json=arguments.json)
    except SystemExit as stop:  # pretraining was interrupted, its state is saved; or SIGTERM
        if not isinstance(stop.code, int):
            raise
        message = str(stop) if str(stop) != str(stop.code) else "terminated"
        goes_on = arguments.command in (*RECIPE_COMMANDS, "compare")
        hint = "; the same command goes on from there" if goes_on else ""
        return _fail(f"{message}{hint}", stop.code, json=arguments.json)
    except Exception as error:
        # A fault of ours: the traceback is wanted, but a program that reads our JSON still gets its line.
        if arguments.json and _prints():
            print(as_json({"error": f"{type(error).__name__}: {error}"}), flush=True)
        raise
    if _prints():
        print(as_json(answer.data) if arguments.json else answer.text, flush=True)
    return answer.exit_code


def _fail(message: str, exit_code: int, *, json: bool) -> int:
    if _prints():
        print(f"error: {message}", file=sys.stderr, flush=True)
        if json:
            print(as_json({"error": message}), flush=True)
    return exit_code


def _prints() -> bool:
    """Under torchrun only the first process answers; asked of the environment, so that torch need not be imported."""
    return os.environ.get("RANK", "0") == "0"


@contextmanager
def _logs_to_stderr() -> Iterator[None]:
    """Log messages go to stderr as they are while a command runs."""
    root, handler = logging.getLogger(), logging.StreamHandler(sys.stderr)
    before = root.level
    handler.setFormatter(logging.Formatter("%(message)s"))
    root.addHandler(handler)
    root.setLevel(logging.INFO)
    # SpeechBrain's notes on itself say nothing to the person; its loggers set their level in two ways.
    os.environ.setdefault("SB_LOG_LEVEL", "WARNING")
    logging.getLogger("speechbrain").setLevel(logging.WARNING)
    try:
        yield
    finally:
        root.removeHandler(handler)
        root.setLevel(before)


@contextmanager
def _sigterm_raises() -> Iterator[None]:
    """A scheduler's SIGTERM ends the command like an exception, so that half-written files are cleaned away."""
    owner = os.getpid()

    def stop(signum: int, frame: FrameType | None) -> None:
        if os.getpid() != owner:  # a reading process inherits the handler, and has nothing to clean
            os._exit(128 + signum)
        raise SystemExit(128 + signum)

    try:
        before = signal.signal(signal.SIGTERM, stop)
    except ValueError:  # not in the main thread: Python delivers no signals here
        yield
        return
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
