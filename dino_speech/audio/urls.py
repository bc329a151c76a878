"""Which URLs may be opened: few protocols, no chains, and none that a stranger's file names before a person agrees.

fsspec's protocols can do far more than fetch bytes: `reference://` renders templates, `::` chains one protocol to
another, `file://` and `data:` lead back to this machine. So what is opened is listed here, and compared as text. A
manifest or a recipe may come from somebody else: a host that only such a file names is asked for nothing until a person
has allowed it, with `--allow-urls`, by `DINO_SPEECH_ALLOW_URLS=1`, or by naming that host in the command itself.
"""

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

PROTOCOLS = ("http", "https", "s3", "gs", "gcs", "az", "abfs", "abfss", "hf")
EXTRA_OF = {"http": "http", "https": "http", "s3": "s3", "gs": "gcs", "gcs": "gcs"}  # of fsspec; else "abfs"
ALLOWED = "DINO_SPEECH_ALLOW_URLS"  # in the environment, which reading processes inherit
ORIGIN = re.compile(r"(?P<protocol>[\w.+-]+)://(?P<host>[^/?#]*)")


class UnusableURLError(OSError):
    """A URL that is not opened: its protocol is not on the list, is not installed, or nobody has agreed to it."""


def is_url(place: str) -> bool:
    """Whether a place is behind a protocol."""
    return "://" in place


def origin_of(url: str) -> str:
    """Protocol and host of a URL.

    Example:
        >>> origin_of("https://example.org/speech/a.wav")
        'https://example.org'
    """
    found = ORIGIN.match(url)
    return found[0].lower() if found else ""


def check_url(url: str) -> None:
    """Refuse a URL that is no plain address of one of `PROTOCOLS`, whoever has named it.

    Raises:
        UnusableURLError: naming the protocols that are read.
    """
    found = ORIGIN.match(url)
    if found is None or found["protocol"].lower() not in PROTOCOLS or "::" in url:
        raise UnusableURLError(
            f"{url[:200]}: not a URL that is read; expected one of {', '.join(PROTOCOLS)}, without '::': "
            "copy the file to this machine, or to such a place"
        )


def urls_are_allowed() -> bool:
    """Whether a person has allowed every host that a manifest or a recipe names."""
    return os.environ.get(ALLOWED, "") not in ("", "0")


@contextmanager
def urls_agreed_to(agreed: bool = True) -> Iterator[None]:
    """Inside, every host that a manifest or a recipe names is agreed to, in this process and in those it starts."""
    before = os.environ.get(ALLOWED)
    if agreed:
        os.environ[ALLOWED] = "1"
    try:
        yield
    finally:
        os.environ.pop(ALLOWED, None) if before is None else os.environ.update({ALLOWED: before})


def check_named_by_file(url: str, place: str, *, asked: str = "") -> None:
    """Refuse a URL that a file names, unless a person has agreed to its host.

    Args:
        url: what the file names.
        place: where the file names it, for the message.
        asked: a URL that the person gave: what lies on the same host is agreed to.

    Raises:
        UnusableURLError: with the option that allows it.
    """
    check_url(url)
    if urls_are_allowed() or (asked and origin_of(asked) == origin_of(url)):
        return
    raise UnusableURLError(
        f"{place}: names {url[:200]}, and nothing is fetched from {origin_of(url)} before you agree; if you know who "
        f"wrote this file: --allow-urls, or {ALLOWED}=1 in the environment"
    )


def file_system(url: str) -> tuple[Any, str]:
    """fsspec's file system for a URL, and the path in it.

    Raises:
        UnusableURLError: the protocol is not read here, or its package is not installed.
    """
    import fsspec

    check_url(url)
    protocol = url.partition("://")[0].lower()
    try:
        # Asked each time: fsspec keeps the connections itself, and makes new ones in a forked process.
        system, path = fsspec.core.url_to_fs(url)
    except ImportError as error:
        package = "huggingface_hub" if protocol == "hf" else f"fsspec[{EXTRA_OF.get(protocol, 'abfs')}]"
        raise UnusableURLError(f"{url}: needs a package that is missing ({error}); pip install '{package}'") from error
    except ValueError as error:
        raise UnusableURLError(f"{url}: {error}") from error
    return system, path
