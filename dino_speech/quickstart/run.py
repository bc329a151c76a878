"""The whole story in a few minutes: unlabelled speech in, an encoder out, and what it is worth beside its floors.

Everything here is a call of a public function; the settings of pretraining are small enough for two cores.
"""

import copy
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from dino_speech.audio.augment import Augment
from dino_speech.audio.crops import MultiCrop
from dino_speech.data.trials import read_trials
from dino_speech.dino.collapse_doctor import rank_me
from dino_speech.dino.pretrain import DINOPretrainer
from dino_speech.dino.whiten import whiten
from dino_speech.embedding.embedded_manifest import embed_manifest
from dino_speech.errors import InputError
from dino_speech.evaluation.probing.classification import evaluate_classification
from dino_speech.evaluation.reports.pictures import has_matplotlib
from dino_speech.evaluation.verification.evaluate import evaluate_verification
from dino_speech.models.checkpoint import load_encoder
from dino_speech.models.encoder import SpeechEncoder
from dino_speech.models.registry import build_encoder
from dino_speech.provenance import provenance
from dino_speech.quickstart.data import QuickstartData, own_data, synthetic_data
from dino_speech.quickstart.report import QuickstartReport, SystemFigures
from dino_speech.quickstart.verdict import verdict
from dino_speech.training.state import refuse_other_things

# ours, found by trying on the synthetic corpus: what learns most in two minutes on two cores. Frames every 20 ms and a
# narrow network make steps cheap; the shortcut begins from the long-term spectrum; mild noise and a quick teacher suit
# a run of a few hundred steps (at a momentum of 0.996 the teacher would still be mostly the untrained network).
ENCODER = {
    **{"name": "ecapa_tdnn", "embedding_dim": 128, "channels": 64, "attention_channels": 32, "se_channels": 32},
    **{"hop_ms": 20.0, "mean_norm": "none", "statistics_shortcut": True},
}
CROPS = {"num_long": 2, "long_s": 1.5, "num_short": 4, "short_s": 0.8}
SNR_DB = dict.fromkeys(("snr_db", "music_snr_db", "babble_snr_db"), (10.0, 25.0))
AUGMENT = {"p_noise": 0.3, **SNR_DB, "p_reverb": 0.1, "p_filter": 0.3}
HEAD = {"num_prototypes": 1024, "hidden_dim": 512, "bottleneck_dim": 128}
TEACHER = {"momentum": 0.97, "momentum_end": 0.999}
OPTIMIZER = {"lr": 4e-3}
BATCH_SIZE = 32
TRAIN_S = 120.0  # leaves half of the four minutes to making, checking, judging and drawing
MIN_STEPS, MAX_STEPS = 60, 600
NUM_WHITENING, SHRINKAGE = 2000, 0.001  # as the recipes whiten
NUM_TIMED_STEPS, MAX_TIMING_MINUTES = 6, 0.3


def quickstart(
    *,
    data: str | Path | None = None,
    output: str | Path = "quickstart",
    seed: int = 1986,
    speaker_from_parent: bool = False,
    num_steps: int | None = None,
    train_s: float = TRAIN_S,
    corpus_sizes: Mapping[str, int] | None = None,
    device: str | None = None,
) -> QuickstartReport:
    """Pretrain a small encoder and judge it, before and after, on speakers that it has not heard.

    Args:
        data: a folder of audio or a manifest; None: built-in synthetic voices. What labels there are (`speaker`, and
            `emotion` or another column) are used to judge with, never to learn from.
        output: folder for the encoder, `report.md`, `report.json`, pictures, manifests and trials.
        seed: of the voices, the split, the weights and the training.
        speaker_from_parent: with a folder, take the name of a file's folder as its speaker.
        num_steps: optimizer steps: with a number the same seed gives the same figures again; None: as many as fit into
        train_s: seconds that pretraining may take then.
        corpus_sizes: of the synthetic corpus, as in `synthesize_corpus`.
        device: to pretrain on, as in `DINOPretrainer.fit`; figures are made on the CPU.

    Returns the figures; `to_text()` is what the command prints.

    Raises:
        InputError: the data cannot be used, or `output` holds other things.
    """
    started = time.perf_counter()
    output = Path(output)
    refuse_other_things(output)
    prepared = _prepare(data, output, seed=seed, speaker_from_parent=speaker_from_parent, sizes=corpus_sizes or {})
    notes = list(prepared.notes)
    encoder = build_encoder(**ENCODER, seed=seed)  # type: ignore[arg-type]
    notes.append(_how_to_read(prepared))
    _say(f"judging the floors on {len(prepared.test)} unseen files")
    floor = _judge("fbank_stats (floor)", load_encoder("fbank_stats"), prepared, notes, seed=seed)
    untrained, *whitened = _judge_twice("untrained", encoder, prepared, notes, seed=seed)

    run: dict[str, Any] = {"output_folder": output, "seed": seed, "device": device}
    trainer = _pretrain(encoder, prepared, notes, num_steps, train_s, **run)
    pretrained, *more = _judge_twice("pretrained", load_encoder(output / "encoder"), prepared, [], seed=seed)
    notes += verdict([floor, untrained, *whitened], [pretrained, *more], prepared)
    if not has_matplotlib():
        notes.append("No pictures: matplotlib is not installed (pip install 'dino-speech[plots]').")
    report = QuickstartReport(
        floor=floor,
        untrained=untrained,
        pretrained=pretrained,
        whitened=(*whitened, *more),
        data=prepared,
        folder=output,
        settings=_settings(trainer),
        notes=tuple(notes),
        seconds=time.perf_counter() - started,
        provenance=provenance(seed=seed, manifest=[prepared.train_path, prepared.test_path]),
    )
    report.write(trainer.history_)
    return report


def _prepare(
    data: str | Path | None, output: Path, *, seed: int, speaker_from_parent: bool, sizes: Mapping[str, int]
) -> QuickstartData:
    if data is None:
        _say("making synthetic voices")
        prepared = synthetic_data(output / "synthetic", seed=seed, **sizes)
    else:
        _say(f"checking the audio of {data}")
        prepared = own_data(data, output, seed=seed, speaker_from_parent=speaker_from_parent)
    for note in prepared.notes:
        _say(note)
    return prepared


def _settings(trainer: DINOPretrainer) -> dict[str, Any]:
    """What the report says of the settings."""
    schedule = {"batch_size": trainer.schedule.batch_size, "length": trainer.schedule.length}
    parts = {"encoder": ENCODER, "crops": CROPS, "augment": AUGMENT, "head": HEAD, "teacher": TEACHER}
    return {**parts, "optimizer": OPTIMIZER, "schedule": schedule, "run": {"max_minutes": trainer.run.max_minutes}}


def _pretrain(
    encoder: SpeechEncoder, data: QuickstartData, notes: list[str], num_steps: int | None, train_s: float, **run: Any
) -> DINOPretrainer:
    """Pretrain for `num_steps`, or for as many as fit into `train_s`."""
    batch_size, max_minutes = min(BATCH_SIZE, len(data.train)), None
    if batch_size < BATCH_SIZE:
        notes.append(
            f"Only {batch_size} files to learn from: batches of {batch_size} instead of {BATCH_SIZE}. Expect little; "
            "a useful encoder needs hundreds of files at least."
        )
    if num_steps is None:
        num_steps = _steps_that_fit(train_s, encoder, data, batch_size, **run)
        max_minutes = 1.5 * train_s / 60  # where the machine turns out to be slower than it was while it was timed
    _say(f"pretraining on {len(data.train)} files, {num_steps} steps of {batch_size} utterances")
    trainer = _pretrainer(encoder, batch_size, num_steps, max_minutes=max_minutes)
    trainer.fit(data.train, **run, resume=False)
    if trainer.stop_reason_ is not None:
        logged = trainer.history_[-1]["step"] if trainer.history_ else 0  # a slow machine may not get to the first row
        notes.append(f"Time was up before step {num_steps} (last figures at step {logged}): expect less of it.")
    return trainer


def _judge(name: str, encoder: SpeechEncoder, data: QuickstartData, notes: list[str], *, seed: int) -> SystemFigures:
    """Embed the test files once; all figures that their labels allow."""
    embedded = embed_manifest(encoder, data.test, num_workers=1)
    verification = classification = None
    if data.trials_path is not None:
        trials = read_trials(data.trials_path)
        verification = evaluate_verification(None, data.test, trials, embedded=embedded, seed=seed)
    if data.label is not None:
        try:
            classification = evaluate_classification(None, data.test, label=data.label, embedded=embedded, seed=seed)
        except InputError as error:  # the rest of the story does not need it
            notes.append(f"No UAR of {data.label}: {error}")
    rank = float(rank_me(torch.from_numpy(embedded.embeddings[embedded.usable])))
    return SystemFigures(name, embedded.embeddings, rank, verification, classification)


def _judge_twice(
    name: str, encoder: SpeechEncoder, data: QuickstartData, notes: list[str], *, seed: int
) -> list[SystemFigures]:
    """As it is and, where there is enough speech to learn from, whitened by that."""
    found = [_judge(name, encoder, data, [], seed=seed)]
    if len(data.train) < 2 * encoder.embedding_dim:
        expected = f"{2 * encoder.embedding_dim} files to learn from"
        notes.append(f"Nothing is whitened: that wants {expected}, and here are {len(data.train)}.")
        return found
    whitened = copy.deepcopy(encoder)
    whiten(whitened, list(data.train), NUM_WHITENING, SHRINKAGE, seed)
    return [*found, _judge(f"{name}, whitened", whitened, data, [], seed=seed)]


def _how_to_read(data: QuickstartData) -> str:
    parts = ["The files judged on were not learnt from."]
    if data.trials_path is not None:
        parts.append(
            "EER: how often two files of one speaker are taken for two speakers, and two speakers for one, at the "
            "threshold where both are as frequent; 50 % is guessing."
        )
    if data.label is not None:
        num_classes = len(set(data.test.label(data.label)) - {""})
        parts.append(
            f"UAR: mean recall of the {num_classes} values of {data.label!r} by a linear probe on frozen embeddings "
            f"that has not heard the speaker; {1 / num_classes:.2f} is guessing."
        )
    rank = "Effective rank: how many directions the embeddings use; low after pretraining would be a sign of collapse."
    return " ".join([*parts, "Intervals resample the speakers.", rank])


def _pretrainer(encoder: SpeechEncoder, batch_size: int, num_steps: int, **run: Any) -> DINOPretrainer:
    settings: dict[str, Any] = {"head": HEAD, "teacher": TEACHER, "optimizer": OPTIMIZER, "run": run}
    settings["schedule"] = {"batch_size": batch_size, "length": num_steps}
    return DINOPretrainer(encoder, MultiCrop(**CROPS), augment=Augment(**AUGMENT), **settings)  # type: ignore[arg-type]


def _steps_that_fit(train_s: float, encoder: SpeechEncoder, data: QuickstartData, batch_size: int, **run: Any) -> int:
    """Time a few steps of a run that is thrown away."""
    _say(f"timing {NUM_TIMED_STEPS} steps, to see how many fit into {train_s:.0f} s")
    trainer = _pretrainer(encoder, batch_size, NUM_TIMED_STEPS, log_every=1, max_minutes=MAX_TIMING_MINUTES)
    with tempfile.TemporaryDirectory() as folder:
        trainer.fit(data.train, **{**run, "output_folder": folder})
    rates = [row["utterances_per_s"] for row in trainer.history_ if "utterances_per_s" in row]
    # The fastest: the first steps warm up, and whatever else runs here for a moment should not shorten the whole run.
    return int(np.clip(train_s * max(rates) / batch_size, MIN_STEPS, MAX_STEPS))


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
