"""The measure of content against scikit-learn's curve over pairs gone through one by one."""

import itertools
import json
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from dino_speech.cli.main import main
from dino_speech.data.utterances import Manifest, Utterance
from dino_speech.errors import InputError
from dino_speech.evaluation.content import content

WORDS, SPEAKERS = 5, 6


def said(*, of_word: float, of_speaker: float) -> tuple[np.ndarray, Manifest]:
    """Each speaker says each word; an embedding is a sum of both, with noise."""
    rng = np.random.default_rng(0)
    words, speakers = rng.standard_normal((WORDS, 12)), rng.standard_normal((SPEAKERS, 12))
    pairs = list(itertools.product(range(SPEAKERS), range(WORDS)))
    rows = [of_speaker * speakers[s] + of_word * words[w] + 0.3 * rng.standard_normal(12) for s, w in pairs]
    labels = [{"speaker": f"s{s}", "word": f"w{w}", "source": "ab"[s % 2]} for s, w in pairs]
    return np.array(rows), Manifest(Utterance(str(n), f"/{n}.wav", 1.0, labels=one) for n, one in enumerate(labels))


def by_pairs(embeddings: np.ndarray, manifest: Manifest, within: str = "") -> dict[str, float]:
    points = embeddings - embeddings.mean(0)
    points /= np.linalg.norm(points, axis=1, keepdims=True)
    kinds: dict[str, list[float]] = {"word": [], "speaker": [], "neither": []}
    for i, j in itertools.combinations(range(len(points)), 2):
        a, b = manifest[i].labels, manifest[j].labels
        if within and a[within] != b[within]:
            continue
        same = a["word"] == b["word"], a["speaker"] == b["speaker"]
        kinds[{(True, False): "word", (False, True): "speaker", (False, False): "neither"}[same]].append(
            float(points[i] @ points[j])
        )
    pairs = {"word_over_speaker": ("word", "speaker"), "word": ("word", "neither"), "speaker": ("speaker", "neither")}
    return {
        name: roc_auc_score([1] * len(kinds[high]) + [0] * len(kinds[low]), kinds[high] + kinds[low])
        for name, (high, low) in pairs.items()
    }


@pytest.mark.parametrize("within", ["", "source"])
def test_it_is_scikit_learns_area_over_the_pairs(within: str) -> None:
    embeddings, manifest = said(of_word=0.5, of_speaker=1.0)
    found = content(embeddings, manifest, seed=0, within=within)
    expected = by_pairs(embeddings, manifest, within)
    assert {name: found[name] for name in expected} == pytest.approx(expected, abs=1e-12)
    assert (found["num_utterances"], found["num_words"], found["num_speakers"]) == (30, 5, 6)
    assert found["num_same_speaker"] == 6 * 10


def test_it_tells_an_encoder_of_words_from_one_of_speakers() -> None:
    words, speakers = (content(*said(of_word=w, of_speaker=s), seed=0) for w, s in ((1.0, 0.1), (0.1, 1.0)))
    assert words["word_over_speaker"] > 0.95
    assert speakers["word_over_speaker"] < 0.05
    assert words["speaker"] < speakers["speaker"]
    assert speakers["word"] < words["word"]


def test_words_that_one_speaker_says_are_refused() -> None:
    embeddings, manifest = said(of_word=1.0, of_speaker=1.0)
    with pytest.raises(InputError, match=r"0 pairs of one word, 10 of one speaker.*expected words that several"):
        content(embeddings[:5], manifest[:5], seed=0)


def test_at_the_command_line(all_voices: Path, capsys: pytest.CaptureFixture) -> None:
    words = ["evaluate", "task", "--task", "content", "--encoder", "fbank_stats", "--device", "cpu", "--json"]
    words += ["--manifest", str(all_voices / "manifest.csv"), "--option", "word=emotion"]
    assert main(words) == 0
    figures = json.loads(capsys.readouterr().out.splitlines()[-1])["figures"]
    assert figures["num_speakers"] == 4
    assert 0 <= figures["word_over_speaker"] <= 1
