"""Millions of trials: seconds and peak memory of reading, scoring, EER and minDCF, and intervals over speakers.

A synthetic list over the utterances of a synthetic manifest, with random embeddings of 192 dimensions, in a process of
its own; of the peak memory, what the libraries take before anything is read is left out.

    python tests/benchmarks/bench_trials.py [--json] [--sizes 40000 4000000] [--utterances 150000] [--resamples 100]
"""

import argparse
import json
import tempfile
import time
from pathlib import Path

import numpy as np
from memory import in_fresh_process, measure_memory


def write_lists(folder: Path, num: int, num_utterances: int) -> None:
    """A manifest with speakers, and trials of which one in five is a target."""
    rng, per_speaker = np.random.default_rng(0), 120
    names = [f"id{i // per_speaker:05d}/video{i // 8:06d}/{i % 8:05d}" for i in range(num_utterances)]
    with (folder / "manifest.csv").open("w") as file:
        file.write("ID,duration,wav,speaker\n")
        file.writelines(f"{name},5.0,{name}.wav,id{i // per_speaker:05d}\n" for i, name in enumerate(names))
    enroll = rng.integers(num_utterances, size=num)
    others = rng.integers(num_utterances, size=num)
    same = np.minimum(enroll // per_speaker * per_speaker + rng.integers(per_speaker, size=num), num_utterances - 1)
    test = np.where(rng.random(num) < 0.2, same, others)
    labels = enroll // per_speaker == test // per_speaker
    with (folder / "trials.txt").open("w") as file:
        sides = zip(labels.tolist(), enroll.tolist(), test.tolist(), strict=True)
        file.writelines(f"{int(label)} {names[a]} {names[b]}\n" for label, a, b in sides)


def measure(folder: str, num_resamples: int) -> dict[str, float]:
    """Read and judge, in this process."""
    from dino_speech import evaluate_verification, read_manifest, read_trials
    from dino_speech.embedding.embedded_manifest import EmbeddedManifest

    manifest = read_manifest(Path(folder, "manifest.csv"))
    speakers = np.unique(manifest.label("speaker"), return_inverse=True)[1]
    rng = np.random.default_rng(1)
    embeddings = rng.standard_normal((len(manifest), 192), np.float32)
    embeddings += 0.3 * rng.standard_normal((speakers.max() + 1, 192), np.float32)[speakers]
    embedded, found = EmbeddedManifest(manifest, embeddings), {}

    def judge() -> None:
        start = time.perf_counter(), time.process_time()
        trials = read_trials(Path(folder, "trials.txt"))
        found["read_s"] = time.perf_counter() - start[0]
        report = evaluate_verification(None, manifest, trials, embedded=embedded, num_resamples=num_resamples)
        found["all_s"], found["processor_s"] = time.perf_counter() - start[0], time.process_time() - start[1]
        found["eer"], found["num_trials"] = report.eer, report.num_trials

    memory = measure_memory(judge, rounds=1)
    return {**found, "mib": memory["peak_mib"] - memory["built_mib"]}


def main(arguments: list[str] | None = None) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="+", default=[40_000, 4_000_000])
    parser.add_argument("--utterances", type=int, default=150_000)
    parser.add_argument("--resamples", type=int, default=100)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--measure", metavar="FOLDER", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.measure:
        print(json.dumps(measure(options.measure, options.resamples)))
        return
    rows = []
    for num in options.sizes:
        with tempfile.TemporaryDirectory() as place:
            write_lists(Path(place), num, options.utterances)
            rows.append(in_fresh_process(__file__, ["--measure", place, "--resamples", str(options.resamples)]))
    print(f"{'trials':>9}  {'read, s':>7}  {'all, s':>7}  {'of a processor':>14}  {'MiB more':>8}  {'EER':>6}")
    for row in rows:
        cells = f"{row['read_s']:>7.1f}  {row['all_s']:>7.1f}  {row['processor_s']:>14.1f}  {row['mib']:>8.0f}"
        print(f"{row['num_trials']:>9}  {cells}  {row['eer']:>6.2f}")
    if options.json:
        memory = {f"{row['num_trials']} trials": {"peak_mib": row["mib"]} for row in rows}
        print(json.dumps({"setting": vars(options), "rows": rows, "memory_mib": memory}))


if __name__ == "__main__":
    main()
