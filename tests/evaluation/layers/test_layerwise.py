"""Every layer by the evaluations that judge embeddings; choices made on training speakers only."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dino_speech import build_encoder, evaluate_classification, probe_layers, read_manifest
from dino_speech.cli.main import main
from dino_speech.data.folds import speaker_folds
from dino_speech.data.manifest import Manifest
from dino_speech.data.trials import Trials
from dino_speech.data.utterances import Utterance
from dino_speech.errors import InputError
from dino_speech.evaluation.layers.layer_mixtures import (
    Target,
    compare_mixtures,
    layers_of_one_width,
)
from dino_speech.evaluation.layers.layer_tables import layer_rows, mixture_rows, write_layers
from dino_speech.evaluation.probing.probes import LogisticProbe
from dino_speech.evaluation.verification.evaluate import evaluate_verification
from dino_speech.models.encoder import SpeechEncoder


@pytest.fixture
def network() -> SpeechEncoder:
    return build_encoder("ecapa_tdnn", embedding_dim=8, channels=16, seed=0).eval()


@pytest.fixture
def labelled(voices: Manifest) -> Manifest:
    """The voices with numbers and words."""
    words = ["good day to you", "bad day", "good night", "bad night to you"]
    return Manifest(
        [
            Utterance(
                u.id,
                u.wav,
                u.duration,
                labels={**u.labels, "arousal": f"{i % 4 + 0.1 * (i // 4)}", "text": words[i % 4]},
            )
            for i, u in enumerate(voices)
        ]
    )


@pytest.fixture
def trials(voices: Manifest) -> Trials:
    ids = [utterance.id for utterance in voices]
    pairs = [(a, b) for i, a in enumerate(ids) for b in ids[:i]]
    labels = np.array([a[:4] == b[:4] for a, b in pairs], dtype=np.int8)
    return Trials(labels, [a for a, _ in pairs], [b for _, b in pairs])


@pytest.mark.slow
def test_each_layer_is_judged_as_an_embedding_is(network: SpeechEncoder, labelled: Manifest, trials: Trials) -> None:
    report = probe_layers(
        network,
        labelled,
        label="emotion",
        labels=["arousal"],
        trials=trials,
        descriptors=np.random.default_rng(0).standard_normal((16, 2)),
        transcript="text",
        num_folds=2,
        num_resamples=20,
    )
    assert [layer.name for layer in report.layers] == [
        *("tdnn", "block_1", "block_2", "block_3", "mfa", "pooled", "embedding")
    ]
    whole = evaluate_classification(network, labelled, label="emotion", num_folds=2, num_resamples=20)
    last = report.layers[-1]
    assert last.uar == pytest.approx(whole.uar)
    assert last.intervals["uar"] == whole.intervals["uar"]
    assert last.eer == pytest.approx(evaluate_verification(network, labelled, trials, num_resamples=20).eer)
    similarities = {f"{name}{rest}" for name in ("descriptors", "text") for rest in ("", ", within speakers")}
    for layer in report.layers:
        assert set(layer.figures()) == set(layer.intervals) == {"uar", "eer", "arousal"} | similarities
    assert report.chance_uar == 0.5
    assert report.mixed == ["tdnn", "block_1", "block_2", "block_3"]
    assert set(report.comparison) == {"emotion", "arousal"}
    names = ["best layer", "last layer", "mean of layers", "weighted sum"]
    for mixtures in report.comparison.values():
        assert [one.name for one in mixtures] == names
        assert mixtures[1].gain == 0
        assert set(mixtures[0].chosen) <= set(report.mixed)
        assert sum(mixtures[3].weights.values()) == pytest.approx(1, abs=1e-5)
    # The last of the layers, alone, is what the table says of it.
    assert report.comparison["emotion"][1].value == pytest.approx(report.layers[3].uar)
    assert report.comparison["arousal"][1].value == pytest.approx(report.layers[3].ccc["arousal"], abs=1e-6)
    json.dumps(report.to_dict())


@pytest.mark.slow
def test_a_frame_level_encoder_likewise(labelled: Manifest, tmp_path: Path) -> None:
    pytest.importorskip("transformers", reason="needs the extra dino-speech[ssl]")
    config = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 16}
    config |= {"conv_dim": [16] * 7, "num_conv_pos_embeddings": 8, "num_conv_pos_embedding_groups": 2}
    encoder = build_encoder("hubert", config=config, seed=0)
    report = probe_layers(encoder, labelled, label="emotion", num_folds=2, num_resamples=10, cache=tmp_path)
    assert [layer.name for layer in report.layers] == ["conv", "layer_0", "layer_1", "layer_2", "embedding"]
    assert report.mixed == ["layer_0", "layer_1", "layer_2"]
    assert report.layers[-1].uar == report.layers[-2].uar


def test_layers_that_can_be_added_up() -> None:
    wav2vec = {"conv": 4, "layer_0": 4, "layer_1": 4, "embedding": 4}
    assert layers_of_one_width(wav2vec) == ["layer_0", "layer_1"]
    assert layers_of_one_width({"a": 2, "b": 2, "c": 3, "d": 3, "pooled": 2}) == ["c", "d"]
    assert layers_of_one_width({"embedding": 3}) == []


def _layers(seed: int = 0) -> tuple[dict[str, np.ndarray], np.ndarray, np.ndarray, np.ndarray]:
    """Three layers of 6 columns; only the second knows the class and the number."""
    rng = np.random.default_rng(seed)
    speakers = np.repeat(np.arange(10), 12).astype(str)
    classes = np.tile(["a", "b", "c"], 40)
    numbers = rng.standard_normal(120)
    layers = {name: rng.standard_normal((120, 6)).astype(np.float32) for name in ("low", "middle", "high")}
    layers["middle"][:, 0] += 3 * (classes == "a")
    layers["middle"][:, 1] += 3 * (classes == "b")
    layers["middle"][:, 2] += 3 * numbers
    return layers, classes, numbers, speakers


@pytest.mark.slow
def test_the_layer_that_knows_is_chosen_and_weighted() -> None:
    layers, classes, numbers, speakers = _layers()
    for target, folds in (
        (Target(classes, speakers, 0), speaker_folds(speakers.tolist(), classes.tolist(), num_folds=3)),
        (Target(numbers, speakers, 0), speaker_folds(speakers.tolist(), num_folds=3)),
    ):
        best, last, mean, weighted = compare_mixtures(layers, target, speakers, folds, num_resamples=50)
        assert best.chosen == ["middle"] * 3
        assert max(weighted.weights, key=weighted.weights.get) == "middle"  # type: ignore[arg-type]
        assert weighted.weights["middle"] > 0.6
        assert best.value > mean.value > last.value
        assert weighted.value > mean.value
        assert best.gain == pytest.approx(best.value - last.value)
        assert best.gain_interval.low > 0
        assert last.gain_interval.low == last.gain_interval.high == 0


@pytest.mark.slow
def test_the_choice_never_sees_the_test_speakers() -> None:
    """Labels of the test part are changed: what is chosen, learnt and predicted there stays the same."""
    layers, classes, _, speakers = _layers()
    folds = speaker_folds(speakers.tolist(), classes.tolist(), num_folds=3)
    train, test = folds[0]
    honest = compare_mixtures(layers, Target(classes, speakers, 0), speakers, folds[:1], num_resamples=5)
    spoilt = classes.copy()
    spoilt[test] = np.random.default_rng(0).permutation(spoilt[test])
    other = compare_mixtures(layers, Target(spoilt, speakers, 0), speakers, folds[:1], num_resamples=5)
    for one, two in zip(honest, other, strict=True):
        assert one.chosen == two.chosen
        assert one.weights == two.weights
        np.testing.assert_array_equal(one.predicted[test], two.predicted[test])
    probe = LogisticProbe(seed=0).fit(layers["high"][train], classes[train], speakers[train])
    np.testing.assert_array_equal(honest[1].predicted[test], probe.predict(layers["high"][test]))


def test_classes_rarer_than_the_inner_folds_are_many() -> None:
    rng = np.random.default_rng(0)
    classes, speakers = np.array(["a", "b"] * 4), np.repeat(["s0", "s1", "s2", "s3"], 2)
    layers = {name: rng.standard_normal((8, 4)) for name in ("one", "two")}
    found = compare_mixtures(
        layers, Target(classes, speakers, 0), speakers, [(np.arange(4), np.arange(4, 8))], num_resamples=2
    )
    assert [mixture.name for mixture in found] == ["best layer", "last layer", "mean of layers", "weighted sum"]


@pytest.mark.slow
def test_report_on_disk(network: SpeechEncoder, labelled: Manifest, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="needs the extra dino-speech[plots]")
    options: dict[str, Any] = {"num_folds": 2, "num_resamples": 20}
    report = probe_layers(network, labelled, label="emotion", labels=["arousal"], **options)
    text = write_layers(tmp_path / "out", report).read_text()
    assert "| block_2 |" in text
    assert "weighted sum" in text
    assert (tmp_path / "out" / "layers.png").stat().st_size > 10_000
    assert json.loads((tmp_path / "out" / "report.json").read_text())["results"]["label"] == "emotion"
    assert len(layer_rows(report)) == 7
    assert len(mixture_rows(report)) == 8


def test_mistakes(network: SpeechEncoder, labelled: Manifest) -> None:
    with pytest.raises(InputError, match="nothing to probe: give label, labels, trials, descriptors or transcript"):
        probe_layers(network, labelled)
    with pytest.raises(InputError, match="did you mean 'emotion'"):
        probe_layers(network, labelled, label="emotio")
    with pytest.raises(InputError, match="no column 'words'"):
        probe_layers(network, labelled, transcript="words")
    with pytest.raises(InputError, match="no layer is called like"):
        probe_layers(network, labelled, label="emotion", layers=["layer_*"])
    with pytest.raises(InputError, match="fewer than 2 utterances have a speaker, audio and descriptors"):
        probe_layers(network, labelled, descriptors=np.full((16, 2), np.nan))


@pytest.mark.slow
def test_command(voices_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    build_encoder("xvector", embedding_dim=8, channels=[8] * 5, seed=0).save(tmp_path / "encoder")
    words = ["probe", "--encoder", str(tmp_path / "encoder"), "--manifest", str(voices_folder / "manifest.csv")]
    words += ["--where", "speaker=spk0,spk1,spk2", "--label", "emotion", "--folds", "2"]
    words += ["--layers", "tdnn_[12]", "embedding", "--output", str(tmp_path / "o")]
    assert main([*words, "--json"]) == 0
    found = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert [layer["name"] for layer in found["layers"]] == ["tdnn_1", "tdnn_2", "embedding"]
    assert 0 <= found["layers"][0]["uar"] <= 1
    assert found["num_utterances"] == 12
    assert found["comparison"]["emotion"][3]["name"] == "weighted sum"
    assert Path(found["report"]).is_file()
    assert main(words) == 0
    text = capsys.readouterr().out
    assert text.startswith("layer")
    assert "gain over the last layer" in text


@pytest.mark.slow
@pytest.mark.corpus
def test_real_speech_end_to_end(data_root: Path, tmp_path: Path) -> None:
    pytest.importorskip("transformers", reason="needs the extra dino-speech[ssl]")
    pytest.importorskip("opensmile", reason="needs the extra dino-speech[descriptors]")
    file = data_root / "emotion_ravdess" / "manifest.csv"
    if not file.is_file():
        pytest.skip(f"{file} is absent")
    manifest = read_manifest(file, where={"emotion": ["angry", "sad"]})
    speakers = sorted(set(manifest.label("speaker")))[:6]
    manifest = manifest.select(speaker=speakers)
    config = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
    config |= {"conv_dim": [32] * 7, "num_conv_pos_embeddings": 8, "num_conv_pos_embedding_groups": 2}
    encoder = build_encoder("hubert", config=config, seed=0)
    options: dict[str, Any] = {"label": "emotion", "descriptors": "egemaps", "cache": tmp_path, "num_resamples": 50}
    report = probe_layers(encoder, manifest, **options)
    by_name = {layer.name: layer for layer in report.layers}
    # Random convolutions keep what is loud, and anger is.
    assert by_name["conv"].similarity["energy"] > 0.1
    assert by_name["conv"].uar is not None
    assert by_name["conv"].uar > 0.6
    again = probe_layers(encoder, manifest, **options)
    assert again.to_dict()["layers"] == report.to_dict()["layers"]
