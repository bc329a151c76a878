"""What the quickstart learns from and is judged on: the built-in synthetic corpus, or a person's own files.

The files are checked, no more of them taken than a few minutes allow, and split without a speaker on both sides.
"""

import os
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from dino_speech.audio.io import judge_audio
from dino_speech.data.in_threads import in_order
from dino_speech.data.manifest import read_manifest, scan_folder, write_manifest
from dino_speech.data.trials import make_trials, write_trials
from dino_speech.data.utterances import Manifest, Skipped
from dino_speech.errors import InputError
from dino_speech.synthesis.corpus import synthesize_corpus

MIN_TRAIN_FILES = 8  # fewer leave nothing to tell apart in a batch
# What can be checked, learnt from and embedded within the few minutes; the choice is stated in the report. # ours
MAX_FILES, MAX_HOURS = 2400, 8.0
MAX_TEST_SPEAKERS, MAX_TEST_FILES_EACH, TEST_FRACTION = 40, 10, 0.3
MAX_TRIALS = 20_000
MAX_CLASSES, MIN_FILES_PER_CLASS, MIN_SPEAKERS_PER_CLASS = 12, 4, 2
PREFERRED_LABELS = ("emotion", "diagnosis", "sex", "gender", "accent", "language")


@dataclass(frozen=True, slots=True)
class QuickstartData:
    """Two manifests without a common speaker, and what they can be judged by.

    Attributes:
        trials_path: same or different speaker; None without speaker labels.
        label: column to classify; None where no column has a few values, each by several speakers.
        notes: sentences on what was chosen and what was left out, for the report.
        synthetic: whether this is the built-in corpus.
    """

    train: Manifest
    test: Manifest
    train_path: Path
    test_path: Path
    trials_path: Path | None
    label: str | None
    notes: tuple[str, ...] = ()
    skipped: tuple[Skipped, ...] = ()
    synthetic: bool = False


def synthetic_data(folder: Path, *, seed: int, **sizes: int) -> QuickstartData:
    """The built-in corpus, made on the first call and anew for another seed; `sizes` as in `synthesize_corpus`."""
    corpus = synthesize_corpus(folder, seed=seed, overwrite=True, **sizes)
    train, test = read_manifest(corpus.train), read_manifest(corpus.test)
    note = (
        f"Built-in synthetic voices: {len(train)} files of {len(set(train.label('speaker')))} speakers to learn from, "
        f"{len(test)} files of {len(set(test.label('speaker')))} other speakers to be judged on. They are not speech: "
        "the figures show that the software works and compare its settings, and say nothing about real speech."
    )
    return QuickstartData(train, test, corpus.train, corpus.test, corpus.trials, "emotion", (note,), (), True)


def own_data(source: str | Path, folder: Path, *, seed: int, speaker_from_parent: bool = False) -> QuickstartData:
    """A person's folder or manifest: find, check, choose, split; writes `train.csv`, `test.csv`, `trials.txt`.

    Raises:
        InputError: nothing usable there, or fewer than 8 files to learn from.
    """
    source = Path(source)
    if source.is_dir():
        found = scan_folder(source, speaker_from_parent=speaker_from_parent)
    elif speaker_from_parent:
        raise InputError(f"{source} is a manifest: give its speakers in a column `speaker`, or give the folder instead")
    else:
        found = read_manifest(source)
    rng = np.random.default_rng(seed)
    chosen, notes = _choose(found, rng)
    usable, bad = check_audio(chosen)
    skipped = (*found.skipped, *bad)
    num_found = len(found) + len(found.skipped)
    notes.append(f"{source}: {num_found} files found, {len(usable)} used, {len(skipped)} unusable.")
    if len(usable) < MIN_TRAIN_FILES + 2:
        listed = "".join(f"\n  {item.name}: {item.reason}" for item in skipped[:10])
        problem = f"{source}: {len(usable)} usable files; the quickstart needs at least {MIN_TRAIN_FILES + 2}"
        raise InputError(f"{problem} (a useful encoder needs hundreds). Unusable: {len(skipped)}{listed}")
    train, test, with_trials = _split(usable, rng, notes)
    folder.mkdir(parents=True, exist_ok=True)
    train_path, test_path = folder / "train.csv", folder / "test.csv"
    write_manifest(train, train_path)
    write_manifest(test, test_path)
    trials_path = label = None
    if with_trials:
        trials_path, label = folder / "trials.txt", choose_label(test)
        write_trials(make_trials(test, label="speaker", seed=seed, max_trials=MAX_TRIALS), trials_path)
        if label is None:
            notes.append("No label column has a few values, each by several speakers: nothing to classify.")
    return QuickstartData(train, test, train_path, test_path, trials_path, label, tuple(notes), tuple(skipped))


def check_audio(manifest: Manifest) -> tuple[Manifest, list[Skipped]]:
    """Decode every file once; the utterances that can be used, and the files that cannot with their reasons."""
    paths = sorted({utterance.wav for utterance in manifest})
    judgements = dict(zip(paths, in_order(judge_audio, paths, os.cpu_count() or 1), strict=True))
    usable = [index for index, utterance in enumerate(manifest) if judgements[utterance.wav].ok]
    bad = [Skipped(path, judgements[path].reason or "unusable") for path in paths if not judgements[path].ok]
    return manifest.subset(usable), bad


def choose_label(manifest: Manifest) -> str | None:
    """The column to classify: emotion or the like first, else any with a few values, each by several speakers."""
    rank = {name: position for position, name in enumerate(PREFERRED_LABELS)}
    for name in sorted(manifest.columns, key=lambda column: rank.get(column, len(rank))):
        if name in ("speaker", "split", "subset"):
            continue
        speakers: dict[str, list[str]] = defaultdict(list)  # value -> the speaker of each of its files
        for utterance in manifest:
            if value := utterance.labels.get(name, ""):
                speakers[value].append(utterance.labels["speaker"])
        enough = (len(set(s)) >= MIN_SPEAKERS_PER_CLASS and len(s) >= MIN_FILES_PER_CLASS for s in speakers.values())
        if 2 <= len(speakers) <= MAX_CLASSES and all(enough):
            return name
    return None


def _speakers(manifest: Manifest) -> list[str]:
    """Speaker of each utterance, "" where unknown."""
    return manifest.label("speaker") if "speaker" in manifest.columns else [""] * len(manifest)


def _choose(manifest: Manifest, rng: np.random.Generator) -> tuple[Manifest, list[str]]:
    """At most `MAX_FILES` files and `MAX_HOURS` hours: whole speakers in random order, each unknown one alone."""
    if len(manifest) <= MAX_FILES and manifest.duration_s <= MAX_HOURS * 3600:
        return manifest, []
    groups: dict[str, list[int]] = defaultdict(list)
    for index, speaker in enumerate(_speakers(manifest)):
        groups[speaker or f"\0{index}"].append(index)
    kept, seconds = list[int](), 0.0
    for position in rng.permutation(len(groups)):
        group = list(groups.values())[position]
        added = sum(manifest[index].duration for index in group)
        if not kept or (len(kept) + len(group) <= MAX_FILES and seconds + added <= MAX_HOURS * 3600):
            kept += group
            seconds += added
    note = (
        f"Took {len(kept)} of {len(manifest)} files ({seconds / 3600:.1f} of {manifest.duration_s / 3600:.1f} h), "
        "chosen at random: more cannot be used within the few minutes of a quickstart. `dino-speech pretrain` uses all."
    )
    return manifest.subset(sorted(kept)), [note]


def _split(manifest: Manifest, rng: np.random.Generator, notes: list[str]) -> tuple[Manifest, Manifest, bool]:
    """Train, test and whether the test part can have trials; appends to `notes` what was done."""
    speakers = _speakers(manifest)
    counts = Counter(speaker for speaker in speakers if speaker)
    eligible = sorted(speaker for speaker, count in counts.items() if count >= 2)
    num_test = min(MAX_TEST_SPEAKERS, max(2, round(TEST_FRACTION * len(counts))), len(eligible))
    chosen = set(rng.permutation(eligible)[:num_test].tolist()) if eligible else set()
    train = [index for index, speaker in enumerate(speakers) if speaker not in chosen]
    if num_test >= 2 and len(train) >= MIN_TRAIN_FILES:
        test = _some_of_each(chosen, speakers, rng)
        kept = f"{num_test} of them ({len(test)} files) are kept unseen and judged on"
        others = f"{len(train)} files of the others (and of unknown speakers) are learnt from"
        notes.append(f"Speakers: {len(counts)}; {kept}, {others}.")
        if num_test < 10:
            notes.append(f"With {num_test} unseen speakers the figures are rough: look at their intervals.")
        return manifest.subset(train), manifest.subset(test), True
    found = f" (found {len(eligible)} such speakers)" if counts else ""
    notes.append(
        f"EER and UAR need speaker labels: a column `speaker` with several speakers of two files or more{found}, or "
        "folders named after speakers and `--speaker-from-parent`. Without them the effective rank of the embeddings "
        "is reported."
    )
    order = rng.permutation(len(manifest))
    num_test = max(2, min(200, len(manifest) // 5, len(manifest) - MIN_TRAIN_FILES))
    return manifest.subset(sorted(order[num_test:])), manifest.subset(sorted(order[:num_test])), False


def _some_of_each(chosen: set[str], speakers: Sequence[str], rng: np.random.Generator) -> list[int]:
    """At most `MAX_TEST_FILES_EACH` files of each chosen speaker, in the order of the manifest."""
    taken: Counter[str] = Counter()
    kept = []
    for index in rng.permutation([index for index, speaker in enumerate(speakers) if speaker in chosen]).tolist():
        if taken[speakers[index]] < MAX_TEST_FILES_EACH:
            taken[speakers[index]] += 1
            kept.append(index)
    return sorted(kept)
