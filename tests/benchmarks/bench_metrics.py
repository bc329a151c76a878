"""What it costs to measure scored trials: the size of VoxCeleb1-O (37,720 trials), and four million.

Beside our EER stand scikit-learn's (`roc_curve`, then interpolation) and, with `--speechbrain`, SpeechBrain's EER and
minDCF on 5,000 trials: both compare all scores with all thresholds, the one in a Python loop, the other in memory
(75,439 thresholds x 18,860 targets x 5 bytes would be 7 GB for the small list). The fastest of several interleaved
rounds is given, as other work on the machine can only add to it.

    python tests/benchmarks/bench_metrics.py [--json] [--rounds 7] [--large 4000000] [--speechbrain]
"""

import argparse
import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from scipy.optimize import brentq
from sklearn.metrics import roc_curve

from dino_speech.data.manifest import read_manifest
from dino_speech.data.trials import read_trials, resolve
from dino_speech.evaluation.backends import cosine_scores
from dino_speech.intervals import bootstrap_trials
from dino_speech.metrics import DetCurve, eer, min_cllr, min_dcf

SMALL, NUM_FILES, NUM_SPEAKERS = 37_720, 4_708, 40  # VoxCeleb1-O
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


def fastest(functions: dict[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """Seconds of the fastest round of each, the rounds interleaved."""
    seconds = dict.fromkeys(functions, float("inf"))
    for _ in range(rounds):
        for name, function in functions.items():
            began = time.perf_counter()
            function()
            seconds[name] = min(seconds[name], time.perf_counter() - began)
    return seconds


def measure(num: int, rounds: int, *, num_resamples: int) -> dict[str, float]:
    embeddings, enroll, test, labels, *speakers = make_trials(num)
    scores = cosine_scores(embeddings, enroll, test)
    functions: dict[str, Callable[[], object]] = {
        "cosine_scores": lambda: cosine_scores(embeddings, enroll, test),
        "eer": lambda: eer(scores, labels),
        "min_dcf": lambda: min_dcf(scores, labels),
        "min_cllr": lambda: min_cllr(scores, labels),
        "sklearn_eer": lambda: sklearn_eer(scores, labels),
    }
    seconds = fastest(functions, rounds)
    statistics = {"eer": DetCurve.eer, "min_dcf": DetCurve.min_dcf}
    bootstrap = fastest(
        {
            f"bootstrap_{num_resamples}": lambda: bootstrap_trials(
                statistics, scores, labels, *speakers, num_resamples=num_resamples
            )
        },
        1,
    )
    return {"num_trials": num, "eer_percent": eer(scores, labels), **seconds, **bootstrap}


def measure_reading(rounds: int) -> dict[str, float]:
    """100,000 rows of a manifest, a trial list of VoxCeleb1-O's size, and its names looked up."""
    with tempfile.TemporaryDirectory() as folder:
        manifest, trials = Path(folder, "m.csv"), Path(folder, "t.txt")
        rows = (f"id{i},audio/{i % 999}/{i}.wav,3.1,spk{i % 999},F,en,here,train\n" for i in range(100_000))
        manifest.write_text("utt_id,path,duration_s,speaker,sex,language,source,split\n" + "".join(rows))
        trials.write_text("".join(f"{i % 2} audio/{i % 999}/{i}.wav audio/1/1.wav\n" for i in range(SMALL)))
        read, listed = read_manifest(manifest), read_trials(trials)
        functions: dict[str, Callable[[], object]] = {
            "read_manifest_100000_rows": lambda: read_manifest(manifest),
            f"read_trials_{SMALL}": lambda: read_trials(trials),
            f"resolve_{SMALL}": lambda: resolve(listed, read),
        }
        return fastest(functions, rounds)


def measure_speechbrain() -> dict[str, float]:
    import torch
    from speechbrain.utils.metric_stats import EER, minDCF

    embeddings, enroll, test, labels, *_ = make_trials(FOR_SPEECHBRAIN)
    scores = torch.from_numpy(cosine_scores(embeddings, enroll, test))
    positive, negative = scores[torch.from_numpy(labels) == 1], scores[torch.from_numpy(labels) == 0]
    functions: dict[str, Callable[[], object]] = {
        "eer": lambda: eer(scores.numpy(), labels),
        "min_dcf": lambda: min_dcf(scores.numpy(), labels),
        "speechbrain_eer": lambda: EER(positive, negative),
        "speechbrain_min_dcf": lambda: minDCF(positive, negative),
    }
    return {"num_trials": FOR_SPEECHBRAIN, **fastest(functions, 3)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--large", type=int, default=4_000_000, help="trials of the large list; 0: none")
    parser.add_argument("--speechbrain", action="store_true")
    arguments = parser.parse_args()
    found = {
        "small": measure(SMALL, arguments.rounds, num_resamples=1000),
        "reading": measure_reading(arguments.rounds),
    }
    if arguments.large:
        found["large"] = measure(arguments.large, max(1, arguments.rounds // 3), num_resamples=10)
    if arguments.speechbrain:
        found["speechbrain"] = measure_speechbrain()
    if arguments.json:
        print(json.dumps(found))
        return
    for group, rows in found.items():
        for name, value in rows.items():
            print(f"{group:12} {name:28} {value:12.4f}{'' if name.startswith(('num', 'eer_p')) else ' s'}")


if __name__ == "__main__":
    main()
