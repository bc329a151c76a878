"""Shows the docstrings' sections `Example` and `Source`, which the Google style of griffe does not know."""

import re
from typing import Any

import griffe

SOURCE = re.compile(r"^Source:[ ]*(?P<first>.*)(?P<rest>(?:\n[ ]+\S.*)*)", re.MULTILINE)


class DocstringSections(griffe.Extension):
    """Rewrites each docstring before it is parsed."""

    def on_instance(self, *, obj: griffe.Object, **kwargs: Any) -> None:
        """Called by griffe for every module, class, function and attribute."""
        if obj.docstring is None:
            return
        text = re.sub(r"^Example:$", "Examples:", obj.docstring.value, flags=re.MULTILINE)
        obj.docstring.value = SOURCE.sub(_as_paragraph, text)


def _as_paragraph(found: "re.Match[str]") -> str:
    lines = [found["first"], *found["rest"].splitlines()]
    return "**Source:** " + " ".join(line.strip() for line in lines if line.strip())
