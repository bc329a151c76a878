"""Whatever `.[all]` brings, direct or not, has a licence of this list; the page names what asks more than a notice."""

import configparser
import re
from email.message import Message
from importlib.metadata import Distribution, PackageMetadata, PackageNotFoundError, distribution
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parents[1]
NOTICE = {  # keep the notice, and do as you like
    *("0BSD", "Apache-2.0", "BSD-2-Clause", "BSD-3-Clause", "CC0-1.0", "CNRI-Python", "ISC", "LLVM-exception", "MIT"),
    *("MIT-0", "MIT-CMU", "PSF-2.0", "Python-2.0", "Unlicense", "Zlib"),
}
SHARE_CHANGES = {"LGPL-2.1-or-later", "MPL-2.0"}  # of the library itself; and NVIDIA's own, for CUDA
SPOKEN = {  # how metadata from before SPDX say it
    **dict.fromkeys(("BSD", "BSD License", "3-Clause BSD License"), "BSD-3-Clause"),
    **dict.fromkeys(("MIT License",), "MIT"),
    **dict.fromkeys(
        ("Apache Software License", "Apache 2.0", "Apache 2.0 License", "Apache License 2.0"), "Apache-2.0"
    ),
    "ISC License (ISCL)": "ISC",
    "Mozilla Public License 2.0 (MPL 2.0)": "MPL-2.0",
    "GNU Lesser General Public License v2 or later (LGPLv2+)": "LGPL-2.1-or-later",
    "Python Software Foundation License": "PSF-2.0",
}
CUDA = re.compile(r"nvidia-|cuda-toolkit$")


EXTRAS = ("plots", "ssl", "urls", "parquet", "ffmpeg")  # what `all` holds, and what decodes m4a


def _direct() -> list[Requirement]:
    parser = configparser.ConfigParser(interpolation=None)
    parser.read(ROOT / "setup.cfg", encoding="utf-8")
    texts = [parser["options"]["install_requires"], *(parser["options.extras_require"][x] for x in EXTRAS)]
    lines = [line.strip() for text in texts for line in text.splitlines()]
    return [Requirement(line) for line in lines if line and not line.startswith("#")]


def _installed() -> dict[str, Distribution]:
    """Every distribution that the direct ones ask for here, by name."""
    found: dict[str, Distribution] = {}
    asked, todo = set(), _direct()
    while todo:
        requirement = todo.pop()
        name = re.sub(r"[-_.]+", "-", requirement.name).lower()
        for extra in requirement.extras or {""}:
            if (name, extra) in asked:
                continue
            asked.add((name, extra))
            try:
                found[name] = distribution(name)
            except PackageNotFoundError:
                continue
            further = [Requirement(text) for text in found[name].requires or ()]
            todo += [part for part in further if part.marker is None or part.marker.evaluate({"extra": extra})]
    return found


def _licences(about: PackageMetadata) -> set[str]:
    """The SPDX names of all its licences, of alternatives those of the list; what has no such name stays as it is."""
    classified = [text.rpartition(" :: ")[2] for text in about.get_all("Classifier") or () if "License ::" in text]
    expression = re.sub("[()]", "", about.get("License-Expression") or "")
    parts = [expression] if expression else classified or [(about.get("License") or "none said").partition("\n")[0]]
    found: set[str] = set()
    for part in (both for text in parts for both in text.split(" AND ")):
        either = {SPOKEN.get(word, word) for word in re.split(r" OR | WITH ", part)}
        found |= either & (NOTICE | SHARE_CHANGES) if " OR " in part else either
        found |= set() if either & (NOTICE | SHARE_CHANGES) else either
    return found


@pytest.fixture(scope="module")
def licences() -> dict[str, set[str]]:
    return {name: _licences(package.metadata) for name, package in _installed().items() if not CUDA.match(name)}


@pytest.mark.parametrize(
    ("field", "text", "wanted"),
    [
        ("License-Expression", "Apache-2.0 OR GPL-3.0-only", {"Apache-2.0"}),
        ("License-Expression", "(MIT OR GPL-3.0-only) AND GPL-2.0-only", {"MIT", "GPL-2.0-only"}),
        ("License-Expression", "Apache-2.0 WITH LLVM-exception", {"Apache-2.0", "LLVM-exception"}),
        ("Classifier", "License :: OSI Approved :: GNU Affero GPL", {"GNU Affero GPL"}),
        ("License", "Apache 2.0 License\nTerms", {"Apache-2.0"}),
        ("Name", "nothing", {"none said"}),
    ],
)
def test_what_the_metadata_say_is_understood(field: str, text: str, wanted: set[str]) -> None:
    about = Message()
    about[field] = text
    assert _licences(about) == wanted


def test_each_dependency_has_a_licence_of_the_list(licences: dict[str, set[str]]) -> None:
    assert {"torch", "numpy", "soxr", "matplotlib"} <= licences.keys()
    assert {name: found for name, found in licences.items() if not found <= NOTICE | SHARE_CHANGES} == {}


def test_the_page_names_the_direct_ones_and_those_that_ask_more(licences: dict[str, set[str]]) -> None:
    page = re.sub(r"[-_.\s]+", "-", (ROOT / "docs" / "pages" / "licences.md").read_text(encoding="utf-8")).lower()
    direct = {requirement.name.lower() for requirement in _direct()}
    more = {name for name, found in licences.items() if found & SHARE_CHANGES}
    assert {"soxr", "certifi", "tqdm"} & licences.keys() <= more
    assert [name for name in sorted(direct | more) if name not in page] == []
