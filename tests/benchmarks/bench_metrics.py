"""What it costs to measure scored trials: the size of VoxCeleb1-O (37,720 trials), and four million.

Beside our EER stand scikit-learn's (`roc_curve`, then interpolation) and, with `--speechbrain`, SpeechBrain's EER and
minDCF on 5,000 trials: both compare all scores with all thresholds, the one in a Python loop, the other in memory
(75,439 thresholds x 18,860 targets x 5 bytes would be 7 GB for the small list). The cases of one size take turns; peak
memory is that of a process of its own, with the trials in it.

    python tests/benchmarks/bench_metrics.py [--json] [--rounds 7] [--large 4000000] [--speechbrain]
"""

import argparse
import sys
import tempfile
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from interleaved import add_common_options, finish, time_interleaved
from memory import peak_memories, print_memory
from scipy.optimize import brentq
from sklearn.metrics import roc_curve

from dino_speech.data.manifest import read_manifest
from dino_speech.data.trials import read_trials, resolve
from dino_speech.evaluation.verification.scoring import cosine_scores
from dino_speech.intervals import bootstrap_trials
from dino_speech.metrics import DetCurve, eer, min_cllr, min_dcf

SMALL, NUM_FILES, NUM_SPEAKERS = 37_720, 4_708, 40  # VoxCeleb1-O
ROWS = 100_000
FOR_SPEECHBRAIN = 5_000


def make_trials(num: int) -> tuple[np.ndarray, ...]:
    """Embeddings of files, trials between them, their labels and speakers."""
    rng = np.random.default_rng(0)
    speakers = rng.integers(0, NUM_SPEAKERS, NUM_FILES)
    embeddings = rng.standard_normal((NUM_SPEAKERS, 192))[speakers] + 2.5 * rng.standard_normal((NUM_FILES, 192))
    enroll = rng.integers(0, NUM_FILES, num)
    order, ends = np.argsort(speakers), np.cumsum(np.bincount(speakers))
    begins = np.concatenate([[0], ends[:-1]])
    wanted = speakers[enroll[: num // 2]]
    same = order[rng.integers(begins[wanted], ends[wanted])]  # any file of the same speaker
    test = np.concatenate([same, rng.integers(0, NUM_FILES, num - len(same))])
    labels = (speakers[enroll] == speakers[test]).astype(np.int8)
    return embeddings.astype(np.float32), enroll, test, labels, speakers[enroll], speakers[test]


def sklearn_eer(scores: np.ndarray, labels: np.ndarray) -> float:
    p_false_alarm, p_hit, _ = roc_curve(labels, scores, drop_intermediate=False)
    return float(100 * brentq(lambda x: 1 - x - np.interp(x, p_false_alarm, p_hit), 0, 1))


Cases = dict[str, Callable[[], object]]


def scoring(num: int, num_resamples: int) -> Cases:
    """Scores and figures of `num` trials."""
    embeddings, enroll, test, labels, *speakers = make_trials(num)
    scores = cosine_scores(embeddings, enroll, test)
    statistics = {"eer": DetCurve.eer, "min_dcf": DetCurve.min_dcf}
    return {
        "cosine_scores": lambda: cosine_scores(embeddings, enroll, test),
        "eer": lambda: eer(scores, labels),
        "min_dcf": lambda: min_dcf(scores, labels),
        "min_cllr": lambda: min_cllr(scores, labels),
        "sklearn_eer": lambda: sklearn_eer(scores, labels),
        f"bootstrap_{num_resamples}": lambda: bootstrap_trials(
            statistics, scores, labels, *speakers, num_resamples=num_resamples
        ),
    }


def reading(folder: Path) -> Cases:
    """The rows of a manifest, a trial list of VoxCeleb1-O's size, and its names looked up."""
    manifest, trials = folder / "m.csv", folder / "t.txt"
    rows = (f"id{i},audio/{i % 999}/{i}.wav,3.1,spk{i % 999},F,en,here,train\n" for i in range(ROWS))
    manifest.write_text("utt_id,path,duration_s,speaker,sex,language,source,split\n" + "".join(rows))
    trials.write_text("".join(f"{i % 2} audio/{i % 999}/{i}.wav audio/1/1.wav\n" for i in range(SMALL)))
    read, listed = read_manifest(manifest), read_trials(trials)
    return {
        f"read_manifest_{ROWS}_rows": lambda: read_manifest(manifest),
        f"read_trials_{SMALL}": lambda: read_trials(trials),
        f"resolve_{SMALL}": lambda: resolve(listed, read),
    }


def of_speechbrain() -> Cases:
    """SpeechBrain's figures, and ours of the same trials."""
    from speechbrain.utils.metric_stats import EER, minDCF

    embeddings, enroll, test, labels, *_ = make_trials(FOR_SPEECHBRAIN)
    scores = torch.from_numpy(cosine_scores(embeddings, enroll, test))
    positive, negative = scores[torch.from_numpy(labels) == 1], scores[torch.from_numpy(labels) == 0]
    return {
        "eer": lambda: eer(scores.numpy(), labels),
        "min_dcf": lambda: min_dcf(scores.numpy(), labels),
        "speechbrain_eer": lambda: EER(positive, negative),
        "speechbrain_min_dcf": lambda: minDCF(positive, negative),
    }


def build_group(name: str, options: argparse.Namespace, folder: Path) -> Cases:
    """The cases of one size."""
    if name == "small":
        return scoring(SMALL, options.resamples)
    if name == "large":
        return scoring(options.large, max(1, options.resamples // 100))
    return reading(folder) if name == "reading" else of_speechbrain()


def compare(options: argparse.Namespace, arguments: list[str]) -> dict[str, Any]:
    """All figures, as plain data."""
    rounds = {"small": options.rounds, "reading": options.rounds}
    rounds |= {"large": max(1, options.rounds // 3)} if options.large else {}
    rounds |= {"speechbrain": 3} if options.speechbrain else {}
    times: dict[str, dict[str, float]] = {}
    with tempfile.TemporaryDirectory() as folder:
        for group, number in rounds.items():
            cases = build_group(group, options, Path(folder))
            timings = time_interleaved(cases, rounds=number, warmup=int(group != "speechbrain"))
            times |= {f"{group}: {name}": asdict(timing) for name, timing in timings.items()}
    scored = [name for name in times if name.startswith(("small", "large"))]
    return {
        "setting": {name: value for name, value in vars(options).items() if name != "memory_of"},
        "time_ms": times,
        "memory_mib": {} if options.no_memory else peak_memories(__file__, scored, arguments),
    }


def main(arguments: list[str] | None = None) -> None:
    """Measure and print."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--large", type=int, default=4_000_000, help="trials of the large list; 0: none")
    parser.add_argument("--resamples", type=int, default=1000, help="of the small list; a hundredth of the large one")
    parser.add_argument("--speechbrain", action="store_true")
    add_common_options(parser, rounds=7)
    options = parser.parse_args(words)
    torch.set_num_threads(options.threads)
    if options.memory_of:
        group, _, case = options.memory_of.partition(": ")
        with tempfile.TemporaryDirectory() as folder:
            print_memory(build_group(group, options, Path(folder))[case], rounds=1)
        return
    finish(compare(options, words), as_json=options.json)


if __name__ == "__main__":
    main()
