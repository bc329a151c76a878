"""Decoding and judging every file of a manifest or a folder before it is trained on."""

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from dino_speech.audio.io import AudioJudgement, judge_audio
from dino_speech.data.in_threads import in_order
from dino_speech.data.manifest import read_manifest, scan_folder
from dino_speech.data.utterances import Manifest
from dino_speech.errors import InputError
from dino_speech.plain_data import PlainData

DURATION_TOLERANCE_S = 0.1  # ours: rounding in a manifest is below, another file of the same name is above


@dataclass(frozen=True, slots=True)
class Finding(PlainData):
    """Something about one file that its owner should know.

    `verdict` is "unreadable", "non_finite", "short", "silent" (these cannot be used); "clipped", "duration", "span".
    """

    name: str
    path: str
    verdict: str
    reason: str


@dataclass(frozen=True, slots=True)
class CheckReport(PlainData):
    """What `check_audio_files` found: of `num_files` different files those that can be learnt from, and their hours.

    `counts` are findings by verdict; `unusable` says why the others cannot be used, `remarks` is on usable ones.
    """

    num_files: int
    num_usable: int
    hours: float
    counts: dict[str, int]
    unusable: tuple[Finding, ...]
    remarks: tuple[Finding, ...]

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return PlainData.to_dict(self) | {"num_unusable": len(self.unusable), "hours": round(self.hours, 4)}


def check_audio_files(
    source: str | Path,
    *,
    min_s: float = 0.4,
    num_threads: int = 4,
    progress: Callable[[Iterable[Any], int], Iterable[Any]] = lambda items, total: items,
) -> CheckReport:
    """Decode every file of a manifest or a folder, once, and say what is wrong with which.

    Files shorter than `min_s` seconds cannot be used; `progress` wraps the judgements as they come, given their number.
    """
    if not Path(source).exists():
        raise InputError(f"{source}: no such file or folder; give a manifest (CSV) or a folder of audio")
    manifest = scan_folder(source) if Path(source).is_dir() else read_manifest(source)
    paths = list(dict.fromkeys(utterance.wav for utterance in manifest))
    judged = progress(in_order(partial(judge_audio, min_s=min_s), paths, num_threads), len(paths))
    judgements = dict(zip(paths, judged, strict=True))
    unusable = [Finding(s.name, str(Path(source, s.name)), "unreadable", s.reason) for s in manifest.skipped]
    first = {utterance.wav: utterance.id for utterance in reversed(manifest)}
    unusable += [Finding(first[p], p, j.verdict, j.reason or "") for p, j in judgements.items() if not j.ok]
    remarks = _remarks(manifest, judgements)
    usable = [judgement for judgement in judgements.values() if judgement.ok]
    return CheckReport(
        num_files=len(paths) + len(manifest.skipped),
        num_usable=len(usable),
        hours=sum(judgement.info.duration_s for judgement in usable if judgement.info) / 3600,
        counts=dict(Counter(finding.verdict for finding in [*unusable, *remarks])),
        unusable=tuple(unusable),
        remarks=tuple(remarks),
    )


def _remarks(manifest: Manifest, judgements: dict[str, AudioJudgement]) -> list[Finding]:
    findings, remarked = [], set()
    for utterance in manifest:
        judgement = judgements[utterance.wav]
        if not judgement.ok or judgement.info is None:
            continue
        true_s = judgement.info.duration_s
        if judgement.verdict != "fine" and utterance.wav not in remarked:
            remarked.add(utterance.wav)
            findings.append(Finding(utterance.id, utterance.wav, judgement.verdict, judgement.reason or ""))
        end = utterance.stop if utterance.stop is not None else (utterance.start or 0) + 1
        if end > judgement.info.num_samples_at(16_000):
            reason = f"the span ends at sample {end}; the file has {judgement.info.num_samples_at(16_000)} at 16 kHz"
            findings.append(Finding(utterance.id, utterance.wav, "span", reason))
        whole_file = utterance.start is None and utterance.stop is None
        if whole_file and abs(true_s - utterance.duration) > DURATION_TOLERANCE_S:
            reason = f"the manifest says {utterance.duration:g} s; the file has {true_s:.3f} s"
            findings.append(Finding(utterance.id, utterance.wav, "duration", reason))
    return findings
