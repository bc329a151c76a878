"""Any folder of audio -> `manifest.csv`, and `trials.txt` where the folders are named after speakers."""

from pathlib import Path
from typing import Any

from dino_speech.data.corpora.catalogue import CORPORA
from dino_speech.data.corpora.preparing import write_problems
from dino_speech.data.manifest import scan_folder, write_manifest
from dino_speech.data.trials import make_trials, write_trials


def prepare_folder(
    source: str | Path, output: str | Path, *, speaker_from_parent: bool = False, seed: int = 0
) -> dict[str, Any]:
    """Write a manifest of all audio below a folder.

    Args:
        source: the folder.
        output: where `manifest.csv` and `trials.txt` go; made if absent.
        speaker_from_parent: take the name of the folder that a file lies in as its `speaker`.
        seed: of the draw of trials.

    Returns:
        Summary: `manifest`, `num_utterances`, `hours`, `num_speakers` (None: unknown), `trials` {name: number},
        `unreadable` (a list of "file: reason", also written as txt).

    Raises:
        InputError: there is no such folder, or no readable audio in it.
    """
    manifest = scan_folder(source, speaker_from_parent=speaker_from_parent)
    folder = Path(output)
    path = write_manifest(manifest, folder / "manifest.csv")
    speakers = {name for name in manifest.label("speaker") if name} if speaker_from_parent else set()
    trials: dict[str, int] = {}
    if len(speakers) > 1 and len(speakers) < len(manifest):
        drawn = make_trials(manifest, seed=seed)
        trials[write_trials(drawn, folder / "trials.txt").name] = len(drawn)
    unreadable = [f"{item.name}: {item.reason}" for item in manifest.skipped]
    write_problems({"unreadable": unreadable}, folder)
    return {
        "manifest": str(path),
        "num_utterances": len(manifest),
        "hours": round(manifest.duration_s / 3600, 3),
        "num_speakers": len(speakers) if speaker_from_parent else None,
        "trials": trials,
        "unreadable": unreadable,
    }


CORPORA.known |= {"folder": prepare_folder}
