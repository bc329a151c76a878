"""A command line's words before they are parsed: former names of options, `-` and `_` alike, the keys of a recipe."""

import logging
import re
from collections import deque
from collections.abc import Sequence

from dino_speech.errors import UsageError

OPTION = re.compile(r"--[A-Za-z_][\w.-]*")
FORMER = {
    "--group-by": "--group",
    "--threads": "--num-threads",
    "--num-workers": "--num-threads",
    "--perturbations": "--conditions",
    "--num-folds": "--folds",
}
RECIPE_COMMANDS = ("pretrain", "finetune", "train-supervised", "pseudo-label", "study", "adapt", "distill")
OF_THE_COMMAND = ("--help", "--json", "--device", "--restart", "--trust-recipe", "--allow-urls")  # all others: keys
logger = logging.getLogger(__name__)


def split_words(words: Sequence[str]) -> tuple[list[str], list[str]]:
    """The words for the parser, and the options of a recipe, each as `--key=value`.

    Raises:
        UsageError: a recipe's key without a value.

    Example:
        >>> split_words(["pretrain", "--trainer.lr", "0.1", "small.yaml", "--seed=3", "--trust_recipe"])
        (['pretrain', 'small.yaml', '--trust-recipe'], ['--trainer.lr=0.1', '--seed=3'])
    """
    if not words or words[0] not in RECIPE_COMMANDS:
        return [_present_name(word) for word in words], []
    ours: list[str] = []
    keys: list[str] = []
    waiting = deque(words)
    while waiting:
        word = waiting.popleft()
        name, equals, _ = word.partition("=")
        if not OPTION.fullmatch(name) or _dashed(name) in OF_THE_COMMAND:
            ours.append(_dashed(word))
        elif equals:
            keys.append(word)
        elif waiting and not waiting[0].startswith("--"):
            keys.append(f"{word}={waiting.popleft()}")
        else:
            raise UsageError(f"{word}: expected a value of the recipe, {word} VALUE or {word}=VALUE")
    return ours, keys


def _present_name(word: str) -> str:
    word = _dashed(word)
    name, equals, value = word.partition("=")
    if name not in FORMER:
        return word
    logger.warning("%s: now called %s; the former name goes with the next version", name, FORMER[name])
    return f"{FORMER[name]}{equals}{value}"


def _dashed(word: str) -> str:
    """An option with `-` in its name, whatever its value; another word as it is."""
    name, equals, value = word.partition("=")
    return f"{name.replace('_', '-')}{equals}{value}" if OPTION.fullmatch(name) else word
