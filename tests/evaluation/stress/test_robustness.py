"""Robustness: clean figures are those of the evaluations, changes are paired, what is random follows the ID."""

import json

import numpy as np
import pytest
import soundfile
import torch

from dino_speech.data.manifest import Manifest, Utterance
from dino_speech.data.seeds import seeded_generator
from dino_speech.data.trials import Trials
from dino_speech.errors import InputError
from dino_speech.evaluation.probing.classification import evaluate_classification
from dino_speech.evaluation.probing.regression import evaluate_regression
from dino_speech.evaluation.stress.conditions import Condition
from dino_speech.evaluation.stress.robustness import RobustnessReport, evaluate_robustness
from dino_speech.evaluation.verification.evaluate import evaluate_verification
from dino_speech.metrics import eer, uar
from dino_speech.models.encoder import SpeechEncoder
from dino_speech.models.registry import build_encoder
from dino_speech.transfer.heads import LinearHead
from dino_speech.transfer.system import FineTunedSystem
from dino_speech.transfer.targets import Classes, Dimensions

CLEAN = Condition("clean", "clean")
OPTIONS = {"num_resamples": 20, "seed": 1}


@pytest.fixture(scope="module")
def floor() -> SpeechEncoder:
    return build_encoder("fbank_stats").eval()


@pytest.fixture
def trials(voices: Manifest) -> Trials:
    pairs = [(a, b) for a in voices for b in voices if a.id < b.id]
    labels = [int(a.labels["speaker"] == b.labels["speaker"]) for a, b in pairs]
    return Trials(np.array(labels, dtype=np.int8), [a.id for a, _ in pairs], [b.id for _, b in pairs])


@pytest.fixture(scope="module")
def rated(tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    """6 speakers x 6 files of 1.1 s: the emotion is heard as hiss, `hiss` and `level` are numbers, in dB."""
    folder, rng, rows = tmp_path_factory.mktemp("rated"), np.random.default_rng(0), []
    time = np.arange(17_600) / 16_000
    for speaker in range(6):
        for number in range(6):
            hiss_db, level_db = -24 + 6 * number, float(rng.uniform(-40, -10))
            voice = sum(np.sin(2 * np.pi * (100 + 20 * speaker) * k * time) / k for k in range(1, 9))
            wave = voice * (1.2 + np.sin(30 * time)) + 10 ** (hiss_db / 20) * rng.standard_normal(time.size)
            path = folder / f"s{speaker}_{number}.wav"
            soundfile.write(path, wave / wave.std() * 10 ** (level_db / 20) / 4, 16_000, subtype="FLOAT")
            labels = {"speaker": f"s{speaker}", "emotion": "calm" if number < 3 else "tense"}
            labels |= {"hiss": str(hiss_db), "level": f"{level_db:.3f}", "sex": "FM"[speaker % 2]}
            rows.append(Utterance(path.stem, str(path), 1.1, labels=labels))
    return Manifest(rows)


def only(report: RobustnessReport, figure: str = "uar"):
    assert len(report.conditions) == 1
    return report.conditions[0].changes[figure]


@pytest.mark.slow
def test_clean_classification_is_the_evaluations_and_clean_speech_changes_nothing(
    floor: SpeechEncoder, voices: Manifest
) -> None:
    report = evaluate_robustness(floor, voices, label="emotion", conditions=[CLEAN], **OPTIONS)
    expected = evaluate_classification(floor, voices, label="emotion", seed=1, num_resamples=2)
    change = only(report)
    assert report.metric == "uar"
    assert report.clean == {"uar": expected.uar}
    assert (change.value, change.clean, change.change, change.unchanged) == (expected.uar, expected.uar, 0, 1)
    assert (change.interval.low, change.interval.high, change.num) == (0, 0, 16)


@pytest.mark.slow
def test_clean_regression_and_verification_are_the_evaluations(
    floor: SpeechEncoder, rated: Manifest, voices: Manifest, trials: Trials
) -> None:
    report = evaluate_robustness(floor, rated, labels=["hiss", "level"], conditions=[CLEAN], **OPTIONS)
    expected = evaluate_regression(floor, rated, labels=["hiss", "level"], seed=1, num_resamples=2)
    assert report.clean == pytest.approx(expected.ccc, abs=1e-9)
    assert report.unchanged_within == pytest.approx({"hiss": 0.05 * 30, "level": 0.05 * np.ptp(rated.numbers("level"))})
    for name in ("hiss", "level"):
        assert (only(report, name).change, only(report, name).unchanged) == (0, 1)
    report = evaluate_robustness(floor, voices, trials=trials, conditions=[CLEAN], **OPTIONS)
    assert report.clean["eer"] == evaluate_verification(floor, voices, trials, num_resamples=2).eer
    change = only(report, "eer")
    assert (change.change, change.unchanged, change.num) == (0, 1, len(trials))


@pytest.mark.slow
def test_gain_changes_nothing_for_features_that_do_not_know_the_level(floor: SpeechEncoder, rated: Manifest) -> None:
    report = evaluate_robustness(floor, rated, label="emotion", conditions=["gain"], **OPTIONS)
    assert len(report.conditions) == 4
    assert [outcome.changes["uar"].unchanged for outcome in report.conditions] == [1.0] * 4
    report = evaluate_robustness(floor, rated, labels=["level"], conditions=["gain_-20db"], **OPTIONS)
    assert only(report, "level").unchanged == 1
    options = {"level_norm": False, "mean_norm": "none", "statistics_shortcut": True}
    knows_level = build_encoder("ecapa_tdnn", embedding_dim=32, channels=16, seed=0, **options).eval()
    clean = evaluate_robustness(knows_level, rated, labels=["level"], conditions=[CLEAN], **OPTIONS).clean
    assert clean["level"] > 0.5
    report = evaluate_robustness(knows_level, rated, labels=["level"], conditions=["gain_-20db"], **OPTIONS)
    assert only(report, "level").unchanged < 0.2


@pytest.mark.slow
def test_noise_costs_more_the_louder_it_is_and_the_change_is_paired(floor: SpeechEncoder, rated: Manifest) -> None:
    names = ["white_noise_35db", "white_noise_0db"]
    report = evaluate_robustness(floor, rated, label="emotion", conditions=names, **OPTIONS)
    assert report.clean["uar"] > 0.9
    soft, loud = (outcome.changes["uar"] for outcome in report.conditions)
    assert soft.unchanged > loud.unchanged
    assert soft.value > loud.value
    for change in (soft, loud):
        assert change.change == pytest.approx(change.value - change.clean)
        assert change.interval.low <= change.change <= change.interval.high
    assert loud.interval.high < 0


def test_only_the_test_side_of_trials_is_changed(floor: SpeechEncoder, voices: Manifest, trials: Trials) -> None:
    hiss = Condition("hiss", "noise", {}, lambda wave, generator: torch.randn(len(wave), generator=generator))
    report = evaluate_robustness(floor, voices, trials=trials, conditions=[hiss], **OPTIONS)
    change = only(report, "eer")
    clean = floor.embed_files(list(voices)).embeddings
    noise = floor.embed_files(
        list(voices), transform=lambda wave, name: torch.randn(len(wave), generator=seeded_generator(1, "hiss", name))
    ).embeddings
    unit = [rows / np.linalg.norm(rows, axis=1, keepdims=True) for rows in (clean, noise)]
    place = voices.by_id()
    scores = [unit[0][place[a]] @ unit[1][place[b]] for a, b in zip(trials.enroll, trials.test, strict=True)]
    assert change.value == pytest.approx(eer(scores, trials.labels), abs=1e-4)


@pytest.mark.slow
def test_what_an_utterance_meets_depends_on_its_id_and_not_on_its_company(
    floor: SpeechEncoder, voices: Manifest
) -> None:
    heard: list[dict[str, float]] = []
    for manifest, workers in ((voices, 0), (voices.subset(range(15, -1, -1)), 2)):
        found: dict[str, float] = {}

        def note(wave: torch.Tensor, generator: torch.Generator, found: dict[str, float] = found) -> torch.Tensor:
            found[f"{len(wave)} {float(wave.sum())}"] = float(torch.rand((), generator=generator))
            return wave

        conditions = [Condition("note", "note", {}, note)]
        options = {"conditions": conditions, "num_workers": workers, **OPTIONS}
        evaluate_robustness(floor, manifest, label="emotion", **options)
        heard.append(found)
    assert heard[0] == heard[1]
    assert len(set(heard[0].values())) == 16
    reports = [
        evaluate_robustness(floor, voices, label="emotion", conditions=["white_noise"], num_workers=n, **OPTIONS)
        for n in (0, 2)
    ]
    assert reports[0].to_dict()["conditions"] == reports[1].to_dict()["conditions"]


@pytest.mark.slow
def test_what_cannot_be_judged_changed_is_listed_and_counts_on_neither_side(
    floor: SpeechEncoder, voices: Manifest
) -> None:
    def cut(wave: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        return wave[: 16_000 if len(wave) > 20_000 else 100]  # 1.2 s files are left with 6 ms

    conditions = [Condition("cut", "cut", {}, cut)]
    report = evaluate_robustness(floor, voices, label="emotion", conditions=conditions, **OPTIONS)
    assert sorted(item.name for item in report.conditions[0].skipped) == [f"spk{i}_0" for i in range(4)]
    assert all("needs at least" in item.reason for item in report.conditions[0].skipped)
    found = evaluate_classification(floor, voices, label="emotion", seed=1, num_resamples=2)
    kept = [not utterance.id.endswith("_0") for utterance in voices]
    assert only(report).num == 12
    assert only(report).clean == uar(found.true[kept], found.predicted[kept])
    silent = Condition("silent", "cut", {}, lambda wave, generator: wave * 0)
    with pytest.raises(InputError, match=r"condition silent: .*none of 16 utterances could be embedded .*silent"):
        evaluate_robustness(floor, voices, label="emotion", conditions=[silent], **OPTIONS)


@pytest.mark.slow
def test_a_finetuned_system_is_judged_as_it_is(voices: Manifest, rated: Manifest) -> None:
    encoder = build_encoder("ecapa_tdnn", embedding_dim=8, channels=8, attention_channels=8, se_channels=8, seed=0)
    system = FineTunedSystem(
        encoder.eval(), LinearHead(8, 2).eval(), Classes("emotion", ("happy", "neutral")), "cross_entropy"
    )
    report = evaluate_robustness(system, voices, conditions=[CLEAN, "white_noise_0db"], **OPTIONS)
    predicted = system.predict(voices).labels
    assert report.clean == {"uar": uar(voices.label("emotion"), predicted)}
    assert report.conditions[0].changes["uar"].unchanged == 1
    targets = Dimensions(("hiss", "level"), (150.0, 3.0), (50.0, 1.0))
    system = FineTunedSystem(encoder, LinearHead(8, 2).eval(), targets, "ccc")
    report = evaluate_robustness(system, rated, labels=["hiss"], conditions=[CLEAN, "low_pass"], **OPTIONS)
    assert list(report.clean) == ["hiss"]
    assert [len(outcome.changes) for outcome in report.conditions] == [1, 1, 1]
    with pytest.raises(InputError, match="the system predicts hiss, level; expected only these, found arousal"):
        evaluate_robustness(system, rated, labels=["arousal"], conditions=[CLEAN])


def test_report_is_plain_data_and_a_table(floor: SpeechEncoder, voices: Manifest) -> None:
    report = evaluate_robustness(floor, voices, label="emotion", conditions=["tone", "crop_end_0.0625s"], **OPTIONS)
    plain = json.loads(json.dumps(report.to_dict(), allow_nan=False))
    assert list(plain)[:3] == ["metric", "clean", "conditions"]
    assert plain["conditions"][0]["parameters"] == {"snr_db": 40.0, "low_hz": 5000.0, "high_hz": 7000.0}
    assert [row["condition"] for row in report.rows()] == ["tone_40db", "tone_20db", "crop_end_0.0625s"]


def test_mistakes_are_named(floor: SpeechEncoder, voices: Manifest, trials: Trials) -> None:
    with pytest.raises(InputError, match="give one of label"):
        evaluate_robustness(floor, voices, label="emotion", trials=trials)
    with pytest.raises(InputError, match="give either a label"):
        evaluate_robustness(floor, voices)
    with pytest.raises(InputError, match="no condition or kind is called 'nois'"):
        evaluate_robustness(floor, voices, label="emotion", conditions=["nois"])
    with pytest.raises(InputError, match="each once; found tone_40db, tone_20db, tone_20db"):
        evaluate_robustness(floor, voices, label="emotion", conditions=["tone", "tone_20db"])
