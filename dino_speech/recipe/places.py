"""Where a recipe may lead: which hosts it may name, and which folders. On the command line a person names any.

References are written out before anything is looked at: `!ref <a>//host` may be the address of one. A path that the
recipe itself writes begins at the folder in which the run is started, or is absolute, and does not climb out of it by
`..`; links on the way to a file are followed, as everywhere. What is written lies below that folder, or the recipe's.
"""

import re
from collections.abc import Sequence
from pathlib import Path

from dino_speech.audio.urls import UnusableURLError, check_named_by_file, is_url, origin_of
from dino_speech.errors import RecipeError
from dino_speech.recipe.yaml_text import COMMAND_LINE, MappingNode, Node, ScalarNode, error_at, get, place, walk

OUTPUT = "output_folder"
CLIMBS = re.compile(r"(?<![\w.])\.\.(?![\w.])")


def typed_texts(tree: MappingNode) -> list[str]:
    """The texts that were typed on the command line; before references are written out."""
    return [node.value for node in walk(tree) if isinstance(node, ScalarNode) and _is_typed(node)]


def check_places(tree: MappingNode, recipe: Path, typed: Sequence[str]) -> None:
    """Refuse (`RecipeError`) hosts that nobody agreed to, paths that climb, and an output folder that lies elsewhere.

    Args:
        tree: without references.
        recipe: its file.
        typed: what `typed_texts` gave; of it, other texts may be made.
    """
    origins = {origin_of(text) for text in typed if is_url(text)}
    for node in walk(tree):
        if not isinstance(node, ScalarNode) or _is_typed(node):
            continue
        if is_url(node.value) and origin_of(node.value) not in origins:
            try:
                check_named_by_file(node.value, place(node))
            except UnusableURLError as error:
                raise RecipeError(str(error)) from None
        if CLIMBS.search(_without(node.value, typed)):
            problem = f"{node.value[:100]!r} leads out of the folder in which the run is started"
            raise error_at(node, f"{problem}; a path with .. is taken from the command line only: --KEY=PATH")
    output = get(tree, OUTPUT)
    if isinstance(output, ScalarNode) and not _is_typed(output):
        _check_output(output, recipe, typed)


def _check_output(node: Node, recipe: Path, typed: Sequence[str]) -> None:
    """A recipe may come from anyone: it may not say where on the disk to write, not even by a link."""
    homes = [Path(), recipe.parent, *(Path(text) for text in typed if text and node.value.startswith(text))]
    found = Path(node.value).resolve()
    if not any(found.is_relative_to(home.resolve()) for home in homes):
        where = "neither below the folder in which the run is started nor below the recipe's own"
        raise error_at(node, f"{OUTPUT} {node.value} is {found}, {where}; if you want it there: --{OUTPUT}={found}")


def _without(text: str, typed: Sequence[str]) -> str:
    for given in typed:
        if CLIMBS.search(given):
            text = text.replace(given, "")
    return text


def _is_typed(node: Node) -> bool:
    return place(node).endswith(COMMAND_LINE)
