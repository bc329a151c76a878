"""VoxCeleb1 and VoxCeleb2 as their owners give them out -> a manifest, and the trials O, E and H.

Facts (robots.ox.ac.uk/~vgg/data/voxceleb; arXiv 1706.08612, 1806.05622): speech of celebrities in YouTube videos.
VoxCeleb1 has 1,251 speakers and 153,516 utterances (dev 1,211 and 148,642; test 40 and 4,874, ids id10270-id10309),
VoxCeleb2 6,112 and 1,128,246 (dev 5,994 and 1,092,009; test 118 and 36,237). The two share no speaker. Trials O are
of VoxCeleb1's test speakers, E and H of all of VoxCeleb1, so a system that is judged on E or H must not have learnt
from VoxCeleb1. Licence: the metadata is CC BY 4.0; the copyright of the audio remains with the owners of the videos.

Layout: any folder that holds `idXXXXX/VIDEO/00001.wav` at some depth (`wav/`, `dev/wav/`, `vox1_test_wav/wav/`,
`dev/aac/` after conversion). The lists and `vox1_meta.csv`, `vox2_meta.csv` are found in the tree or beside it.
"""

import re
import shlex
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from dino_speech.audio.decoding import FFMPEG_SUFFIXES
from dino_speech.audio.io import is_audio, walk_files
from dino_speech.audio.sources import printable
from dino_speech.data.corpora.catalogue import CORPORA
from dino_speech.data.corpora.corpus import Labels, Row, read_table
from dino_speech.data.corpora.preparing import read_rows, refuse_leaks, write_problems
from dino_speech.data.manifest import Manifest, write_manifest
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
COLUMNS = ("speaker", "recording", "sex", "nationality", "split")
CONVERT = (
    r"cd {folder} && find . -name '*.m4a' | sed 's/\.m4a$//' | "
    "xargs -P 8 -I@ ffmpeg -nostdin -n -v error -i @.m4a -ac 1 -ar 16000 @.wav"
)


@dataclass
class _Tree:
    """Audio by `idXXXXX/VIDEO/00001`, what cannot be read as it is, what is outside the layout or twice, the lists."""

    files: dict[str, Path] = field(default_factory=dict)
    unconverted: dict[str, Path] = field(default_factory=dict)
    extra: list[str] = field(default_factory=list)
    papers: dict[str, Path] = field(default_factory=dict)


def prepare_voxceleb(source: str | Path, output: str | Path, *, version: int) -> dict[str, Any]:
    """Write `manifest.csv` (split dev and test); of VoxCeleb1 also the trials found (`trials_O.txt`, ...).

    A list some of whose audio is absent is written without those trials as `..._partial.txt`: its EER is no official
    one. The summary: `manifest`, `num_utterances`, `num_speakers`, `num_official_utterances`, `num_official_speakers`,
    `hours`, `trials` {file: number of trials}, `missing`, `extra`, `unreadable` (lists, also written as txt).
    """
    source, output = Path(source), Path(output)
    tree = _walk(source)
    speakers = _read_metadata(tree.papers.get(METADATA[version]))
    rows = [_row(name, tree.files[name], source, speakers, version) for name in sorted(tree.files)]
    utterances, unreadable = read_rows(rows, COLUMNS, source)
    manifest = Manifest(utterances, columns=COLUMNS)
    refuse_leaks(manifest, "split", name=f"VoxCeleb{version}")
    path = write_manifest(manifest, output / "manifest.csv")
    found = set(manifest.label("speaker"))
    missing = [f"{name}.wav: not converted from {printable(str(file))}" for name, file in tree.unconverted.items()]
    missing += [f"{speaker}: no file of this speaker" for speaker in sorted(speakers.keys() - found)]
    trials: dict[str, int] = {}
    for name in LISTS if version == 1 else ():
        if name in tree.papers:
            trials |= _write_list(read_trials(tree.papers[name]), name, set(manifest.by_id()), output, missing)
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
    tree, papers = _Tree(), (*LISTS, *METADATA.values())
    above = source.absolute().parent
    tree.papers = {
        name: folder / name for folder in (above / "meta", above) for name in papers if (folder / name).is_file()
    }
    for file in walk_files(source):
        speaker, suffix = file.parent.parent.name, file.suffix.lower()
        name = printable(f"{speaker}/{file.parent.name}/{file.stem}")
        if file.name in papers:
            tree.papers[file.name] = file
        elif not is_audio(file):
            continue
        elif not SPEAKER.fullmatch(speaker):
            tree.extra.append(f"{printable(str(file))}: not in a folder idXXXXX/VIDEO")
        elif suffix in FFMPEG_SUFFIXES:
            tree.unconverted[name] = file
        elif name in tree.files:
            tree.extra.append(f"{printable(str(file))}: the same utterance as {tree.files[name]}")
        else:
            tree.files[name] = file
    tree.unconverted = {name: file for name, file in tree.unconverted.items() if name not in tree.files}
    if not tree.files and tree.unconverted:
        cure = f"convert them first: {CONVERT.format(folder=shlex.quote(str(source)))}"
        raise InputError(f"{source}: {len(tree.unconverted)} m4a files, which libsndfile cannot read; {cure}")
    if not tree.files:
        found = list_some(tree.extra) or "none"
        raise InputError(f"{source}: no audio at idXXXXX/VIDEO/00001.wav; found elsewhere: {found}")
    return tree


def _read_metadata(path: Path | None) -> dict[str, Labels]:
    """Speaker -> `sex`, `nationality`, `split`; VoxCeleb1's file has tabs, VoxCeleb2's commas with spaces."""
    if path is None:
        return {}
    rows = read_table(path, ("Gender", "Set"), delimiter=",\t"[METADATA[1] == path.name])
    speakers = {}
    for row in rows:
        speaker = next(iter(row.values.values()))
        if not SPEAKER.fullmatch(speaker):
            raise InputError(f"{row.place}: found {speaker!r}; expected a speaker such as id10001")
        speakers[speaker] = {"sex": row["Gender"].upper(), "nationality": row["Nationality"], "split": row["Set"]}
    return speakers


def _row(name: str, file: Path, source: Path, speakers: dict[str, Labels], version: int) -> Row:
    """An utterance named as the lists name it."""
    speaker, video, _ = name.split("/")
    known = speakers.get(speaker) or {"split": _split(file.relative_to(source), speaker, version)}
    return Row(f"{name}.wav", file.absolute(), {"speaker": speaker, "recording": video, **known})


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


CORPORA.known |= {f"voxceleb{version}": partial(prepare_voxceleb, version=version) for version in (1, 2)}
