"""How much of what is said an embedding holds, beside who says it: a task by the name `content`.

A label-free training can solve its task by the words of a recording. Then the same word by others is nearer than other
words by the same speaker.
"""

import numpy as np
from numpy.typing import NDArray

from dino_speech.data.utterances import Manifest
from dino_speech.errors import InputError
from dino_speech.evaluation.added_tasks import TASKS
from dino_speech.metrics import auc

MAX_UTTERANCES = 3_000  # ours: 4.5 million pairs; more utterances are drawn from
EXPECTED = "expected words that several speakers say, and speakers of several words, within one value of the column"


def content(
    embeddings: NDArray[np.floating],
    manifest: Manifest,
    *,
    seed: int,
    word: str = "word",
    speaker: str = "speaker",
    within: str = "",
) -> dict[str, float]:
    """Areas under the ROC curve of the cosine of centred embeddings, over pairs of utterances.

    Args:
        embeddings: (N, D).
        manifest: of the same; rows without word or speaker are left out, and those after the first 3,000 drawn.
        seed: of the draw.
        word: the column that says what is spoken.
        speaker: that of who speaks.
        within: compare only pairs that share this column's value, for instance the source; "": all pairs.

    Returns:
        `word_over_speaker`: whether the same word by others is nearer than other words by the same speaker: 0 an ideal
        encoder of speakers, 1 one of words, 0.5 both alike. `word` and `speaker`: whether pairs that share that alone
        are nearer than those that share neither, 0.5: it is not heard. Besides `num_utterances`, `num_words`,
        `num_speakers`, `num_same_word`, `num_same_speaker` (pairs).

    Raises:
        InputError: no column, or one of these kinds of pairs does not occur.

    Source: ours.
    """
    words, speakers = np.array(manifest.label(word)), np.array(manifest.label(speaker))
    groups = np.array(manifest.label(within)) if within else np.zeros(len(words))
    rows = np.flatnonzero((words != "") & (speakers != ""))
    if len(rows) > MAX_UTTERANCES:
        rows = np.sort(np.random.default_rng(seed).choice(rows, MAX_UTTERANCES, replace=False))
    points = np.asarray(embeddings, np.float64)[rows]
    points = points - points.mean(0)
    points /= np.maximum(np.linalg.norm(points, axis=1, keepdims=True), 1e-12)
    first, second = np.triu_indices(len(rows), k=1)
    together = _same(groups[rows], first, second)
    first, second = first[together], second[together]
    same_word, same_speaker = (_same(labels[rows], first, second) for labels in (words, speakers))
    cosines = (points @ points.T)[first, second]
    of_word, of_speaker = cosines[same_word & ~same_speaker], cosines[~same_word & same_speaker]
    of_neither = cosines[~same_word & ~same_speaker]
    if not (len(of_word) and len(of_speaker) and len(of_neither)):
        found = f"{len(of_word)} pairs of one {word}, {len(of_speaker)} of one {speaker}, {len(of_neither)} of neither"
        raise InputError(f"{manifest.name}: {found}; {EXPECTED}")
    return {
        "word_over_speaker": _above(of_word, of_speaker),
        "word": _above(of_word, of_neither),
        "speaker": _above(of_speaker, of_neither),
        "num_utterances": len(rows),
        "num_words": len(np.unique(words[rows])),
        "num_speakers": len(np.unique(speakers[rows])),
        "num_same_word": len(of_word),
        "num_same_speaker": len(of_speaker),
    }


def _same(labels: NDArray, first: NDArray[np.integer], second: NDArray[np.integer]) -> NDArray[np.bool_]:
    numbers = np.unique(labels, return_inverse=True)[1]
    return np.asarray(numbers[first] == numbers[second])


def _above(higher: NDArray[np.floating], lower: NDArray[np.floating]) -> float:
    return auc(np.concatenate([higher, lower]), np.repeat([1, 0], [len(higher), len(lower)]))


TASKS.known["content"] = content
