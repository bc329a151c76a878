"""VoxCeleb1 and VoxCeleb2 as their owners give them out -> a manifest, and the trials O, E and H.

Facts (robots.ox.ac.uk/~vgg/data/voxceleb; arXiv 1706.08612, 1806.05622): speech of celebrities in YouTube videos.
VoxCeleb1 has 1,251 speakers and 153,516 utterances (dev 1,211 and 148,642; test 40 and 4,874, ids id10270-id10309),
VoxCeleb2 6,112 and 1,128,246 (dev 5,994 and 1,092,009; test 118 and 36,237). The two share no speaker. Trials O are
of VoxCeleb1's test speakers, E and H of all of VoxCeleb1, so a system that is judged on E or H must not have learnt
from VoxCeleb1. Licence: the metadata is CC BY 4.0; the copyright of the audio remains with the owners of the videos.

Layout: any folder that holds `idXXXXX/VIDEO/00001.wav` at some depth (`wav/`, `dev/wav/`, `vox1_test_wav/wav/`,
`dev/aac/` after conversion). The lists and `vox1_meta.csv`, `vox2_meta.csv` are found in the tree or beside it.
"""

import os
import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dino_speech.audio.io import AUDIO_SUFFIXES
from dino_speech.data.corpora.layout import refuse_leaks, write_problems
from dino_speech.data.manifest import Manifest, Utterance, read_headers, write_manifest
from dino_speech.data.trials import Trials, read_trials, write_trials
from dino_speech.data.utterances import list_some
from dino_speech.errors import InputError

SPEAKER = re.compile(r"id\d{5}")
TEST_SPEAKERS_1 = {f"id{number}" for number in range(10270, 10310)}
NUM_OFFICIAL = {1: (1_251, 153_516), 2: (6_112, 1_128_246)}  # speakers, utterances
# The owners' name -> ours, number of trials. Those ending in 2 are the cleaned ones, which papers report.
LISTS = {
    "veri_test2.txt": ("trials_O", 37_611),
    "list_test_all2.txt": ("trials_E", 579_818),
    "list_test_hard2.txt": ("trials_H", 550_894),
    "veri_test.txt": ("trials_O_original", 37_720),
    "list_test_all.txt": ("trials_E_original", 581_480),
    "list_test_hard.txt": ("trials_H_original", 552_536),
}
METADATA = {1: "vox1_meta.csv", 2: "vox2_meta.csv"}
UNREADABLE_SUFFIXES = (".m4a", ".aac", ".mp4")
CONVERT = (
    r"cd {folder} && find . -name '*.m4a' | sed 's/\.m4a$//' | "
    "xargs -P 8 -I@ ffmpeg -nostdin -n -v error -i @.m4a -ac 1 -ar 16000 @.wav"
)


@dataclass
class _Tree:
    """What lies on disk.

    Attributes:
        files: `idXXXXX/VIDEO/00001` -> the audio file.
        unconverted: the same names -> files in a form that cannot be read.
        extra: audio that is outside the corpus's layout, or a second copy.
        papers: lists and metadata by file name.
    """

    files: dict[str, Path] = field(default_factory=dict)
    unconverted: dict[str, Path] = field(default_factory=dict)
    extra: list[str] = field(default_factory=list)
    papers: dict[str, Path] = field(default_factory=dict)


def prepare_voxceleb1(source: str | Path, output: str | Path) -> dict[str, Any]:
    """Write `manifest.csv` (split dev and test) and a list per kind of trials found (`trials_O.txt`, ...).

    A list some of whose audio is absent is written without those trials as `..._partial.txt`, so that nobody quotes its
    EER as the official one.

    Args:
        source: the corpus.
        output: where the files go; made if absent.

    Returns:
        Summary: `manifest`, `num_utterances`, `num_speakers`, `num_official_utterances`, `num_official_speakers`,
        `hours`, `trials` {file: number of trials}, `missing`, `extra`, `unreadable` (lists, also written as txt).

    Raises:
        InputError: no such folder, no audio in the corpus's layout (with the command that converts m4a), or a speaker
            in dev and in test.
    """
    return _prepare(Path(source), Path(output), 1)


def prepare_voxceleb2(source: str | Path, output: str | Path) -> dict[str, Any]:
    """Write `manifest.csv` (split dev and test); see `prepare_voxceleb1`. VoxCeleb2 has no trials of its own."""
    return _prepare(Path(source), Path(output), 2)


def _prepare(source: Path, output: Path, version: int) -> dict[str, Any]:
    tree = _walk(source)
    if not tree.files:
        raise InputError(_no_audio(source, tree))
    speakers = _read_metadata(tree.papers.get(METADATA[version]))
    utterances, unreadable = _utterances(tree, source, speakers, version)
    if not utterances:
        raise InputError(f"{source}: none of {len(tree.files)} files can be read ({list_some(unreadable)})")
    manifest = Manifest(utterances, columns=["speaker", "recording", "sex", "nationality", "split"])
    refuse_leaks(manifest, "split", name=f"VoxCeleb{version}")
    path = write_manifest(manifest, output / "manifest.csv")
    present = {utterance.id for utterance in utterances}
    found = {utterance.labels["speaker"] for utterance in utterances}
    missing = [f"{name}.wav: not converted from {file}" for name, file in tree.unconverted.items()]
    missing += [f"{speaker}: no file of this speaker" for speaker in sorted(speakers.keys() - found)]
    trials: dict[str, int] = {}
    for name in LISTS if version == 1 else ():
        if name in tree.papers:
            trials |= _write_list(read_trials(tree.papers[name]), name, present, output, missing)
    problems = {"missing": list(dict.fromkeys(missing)), "extra": tree.extra, "unreadable": unreadable}
    write_problems(problems, output)
    num_speakers, num_utterances = NUM_OFFICIAL[version]
    return {
        "manifest": str(path),
        "num_utterances": len(manifest),
        "num_official_utterances": num_utterances,
        "num_speakers": len(found),
        "num_official_speakers": num_speakers,
        "hours": round(manifest.duration_s / 3600, 3),
        "trials": trials,
        **problems,
    }


def _walk(source: Path) -> _Tree:
    if not source.is_dir():
        raise InputError(f"{source}: no such folder; give the folder that holds idXXXXX/VIDEO/00001.wav at some depth")
    tree = _Tree()
    for file in _files_beside(source):
        tree.papers.setdefault(file.name, file)
    for parent, folders, names in os.walk(source, followlinks=True):
        folders.sort()
        folder = Path(parent)
        video, speaker = folder.name, folder.parent.name
        for name in sorted(names):
            suffix = Path(name).suffix.lower()
            if name in LISTS or name in METADATA.values():
                tree.papers[name] = folder / name
            elif suffix in AUDIO_SUFFIXES or suffix in UNREADABLE_SUFFIXES:
                _take(tree, folder / name, f"{speaker}/{video}/{Path(name).stem}" if SPEAKER.fullmatch(speaker) else "")
    tree.unconverted = {name: file for name, file in tree.unconverted.items() if name not in tree.files}
    return tree


def _take(tree: _Tree, file: Path, name: str) -> None:
    if not name:
        tree.extra.append(f"{file}: not in a folder idXXXXX/VIDEO")
    elif file.suffix.lower() in UNREADABLE_SUFFIXES:
        tree.unconverted[name] = file
    elif name in tree.files:
        tree.extra.append(f"{file}: the same utterance as {tree.files[name]}")
    else:
        tree.files[name] = file


def _files_beside(source: Path) -> Iterator[Path]:
    for folder in (source.absolute().parent, source.absolute().parent / "meta"):
        if folder.is_dir():
            yield from (folder / name for name in (*LISTS, *METADATA.values()) if (folder / name).is_file())


def _no_audio(source: Path, tree: _Tree) -> str:
    if tree.unconverted:
        convert = CONVERT.format(folder=shlex.quote(str(source)))
        return (
            f"{source}: {len(tree.unconverted)} m4a files, which libsndfile cannot read; convert them first: {convert}"
        )
    return f"{source}: no audio at idXXXXX/VIDEO/00001.wav; found elsewhere: {list_some(tree.extra) or 'none'}"


def _read_metadata(path: Path | None) -> dict[str, dict[str, str]]:
    """Speaker -> `sex`, `nationality`, `split`; VoxCeleb1's file has tabs, VoxCeleb2's commas with spaces."""
    if path is None:
        return {}
    rows = [[cell.strip() for cell in re.split(r"[\t,]", line)] for line in path.read_text("utf-8-sig").splitlines()]
    header = [name.lower() for name in rows[0]] if rows else []
    if "gender" not in header or "set" not in header:
        raise InputError(f"{path} row 1: no columns Gender and Set; found {', '.join(header)}; take the owners' file")
    speakers = {}
    for number, row in enumerate(rows[1:], start=2):
        if row == [""]:
            continue
        if len(row) != len(header) or not SPEAKER.fullmatch(row[0]):
            raise InputError(f"{path} row {number}: found {', '.join(row)}; expected {', '.join(header)}")
        cells = dict(zip(header, row, strict=True))
        speakers[row[0]] = {
            "sex": cells["gender"].upper(),
            "nationality": cells.get("nationality", ""),
            "split": cells["set"],
        }
    return speakers


def _utterances(
    tree: _Tree, source: Path, speakers: dict[str, dict[str, str]], version: int
) -> tuple[list[Utterance], list[str]]:
    """Utterances named as the lists name them, and the files that cannot be read."""
    names = sorted(tree.files)
    infos = read_headers([tree.files[name] for name in names])
    utterances, unreadable = [], []
    for name, info in zip(names, infos, strict=True):
        if isinstance(info, str):
            unreadable.append(info)
            continue
        speaker, video, _ = name.split("/")
        file = tree.files[name]
        labels = {"speaker": speaker, "recording": video, "sex": "", "nationality": ""}
        labels |= speakers.get(speaker) or {"split": _split(file.relative_to(source), speaker, version)}
        utterances.append(Utterance(f"{name}.wav", os.path.normpath(file.absolute()), info.duration_s, labels=labels))
    return utterances, unreadable


def _split(file: Path, speaker: str, version: int) -> str:
    """Without metadata: VoxCeleb1's test speakers are known, VoxCeleb2's lie in a folder named so."""
    if version == 1:
        return "test" if speaker in TEST_SPEAKERS_1 else "dev"
    return "test" if any(re.search(r"(^|_)test($|_)", part) for part in file.parts) else "dev"


def _write_list(trials: Trials, name: str, present: set[str], output: Path, missing: list[str]) -> dict[str, int]:
    """Write one list under our name; without the trials whose audio is absent, and called partial, where any is."""
    kept = [i for i, sides in enumerate(zip(trials.enroll, trials.test, strict=True)) if present.issuperset(sides)]
    absent = sorted({*trials.enroll, *trials.test} - present)
    missing += [f"{side}: named in {name}" for side in absent]
    ours, num_official = LISTS[name]
    partial = absent or len(trials) != num_official
    for stale in (f"{ours}.txt", f"{ours}_partial.txt"):
        (output / stale).unlink(missing_ok=True)
    if not kept:
        return {}
    part = trials.subset(kept)
    return {write_trials(part, output / f"{ours}{'_partial' if partial else ''}.txt").name: len(part)}
