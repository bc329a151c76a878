"""Learnt on one corpus, judged on another, on one scale: against a ridge regression done by hand."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from dino_speech import build_encoder, evaluate_cross_corpus, load_encoder, read_manifest
from dino_speech.cli.main import main
from dino_speech.data.derived_manifests import rename_labels, rescale_labels
from dino_speech.data.manifest import Manifest, Utterance, write_manifest
from dino_speech.errors import InputError
from dino_speech.metrics import ccc
from dino_speech.transfer.heads import LinearHead
from dino_speech.transfer.system import FineTunedSystem
from dino_speech.transfer.targets import Classes, Dimensions


@pytest.fixture
def corpora(voices_folder: Path) -> Callable[..., tuple[Manifest, Manifest]]:
    """Two corpora of two speakers each: one rates arousal and valence from 1 to 7, the other sentiment from -3 to 3."""
    rows = list(read_manifest(voices_folder / "manifest.csv"))

    def labels(number: int) -> dict[str, str]:
        if number < 8:
            return {"arousal": str(1 + number % 7), "valence": str(7 - number % 4)}
        return {"sentiment": str(number % 7 - 3)}

    both = [replace(row, labels={**row.labels, **labels(number)}) for number, row in enumerate(rows)]

    def make() -> tuple[Manifest, Manifest]:
        return Manifest(both[:8]), Manifest(both[8:])

    return make


def test_scales_are_mapped_and_names_given() -> None:
    rows = [
        Utterance(f"u{i}", f"/{i}.wav", 1.0, labels={"sentiment": cell}) for i, cell in enumerate(["-3", "", "1.5"])
    ]
    renamed = rename_labels(Manifest(rows), {"valence": "sentiment"})
    found = rescale_labels(renamed, ["valence", "arousal"], (-3, 3), onto=(1, 7))
    assert found.label("valence") == ["1.0", "", "5.5"]
    assert found.label("sentiment") == ["-3", "", "1.5"]
    assert rescale_labels(found, ["valence"], None, onto=None) is found
    assert rescale_labels(found, ["valence"], (1, 7), onto=(1, 7)) is found
    with pytest.raises(InputError, match=r"u0, column 'sentiment': found -3; expected -1 to 1, the label_range"):
        rescale_labels(Manifest(rows), ["sentiment"], (-1, 1), onto=(-1, 1))
    with pytest.raises(InputError, match=r"label_range is \(1, 5\) here and None there; give both"):
        rescale_labels(Manifest(rows), ["sentiment"], (1, 5), onto=None)
    for wrong in ((3, -3), (1,), "13", (0, float("inf")), (1, 2, 3)):
        with pytest.raises(InputError, match=r"expected the lowest and the highest rating, such as \[1, 7\]"):
            rescale_labels(Manifest(rows), ["sentiment"], wrong, onto=(1, 7))  # type: ignore[arg-type]
    with pytest.raises(InputError, match="no column 'mood'"):
        rename_labels(Manifest(rows), {"valence": "mood"})


def test_the_probe_learns_from_one_and_is_judged_on_the_other(
    corpora: Callable[..., tuple[Manifest, Manifest]],
) -> None:
    encoder, (train, test) = load_encoder("fbank_stats"), corpora()
    test = rescale_labels(rename_labels(test, {"valence": "sentiment"}), ["valence"], (-3, 3), onto=(1, 7))
    report = evaluate_cross_corpus(encoder, {"other": test}, train=train, labels=["arousal", "valence"])["other"]
    strength = report.strengths["valence"][0]
    x, unseen = (encoder.embed_files(list(part)).embeddings for part in (train, test))
    ridge = make_pipeline(StandardScaler(), Ridge(alpha=strength * len(train))).fit(x, train.numbers("valence"))
    true, expected = np.array(test.numbers("valence")), ridge.predict(unseen)
    found = report.predicted[:, 0]
    np.testing.assert_allclose(found, expected, atol=0.1)  # eight utterances, 160 numbers each, in single precision
    direct = 2 * np.mean((true - true.mean()) * (found - found.mean()))
    direct /= true.var() + found.var() + (true.mean() - found.mean()) ** 2
    assert report.ccc == {"valence": pytest.approx(direct)}
    assert (report.num_utterances, report.num_folds, report.labels) == (8, 0, ["valence"])
    assert set(report.true.ravel()) <= {1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0}


def test_classes_are_learnt_from_all_and_judged_on_an_official_test_part(
    corpora: Callable[..., tuple[Manifest, Manifest]],
) -> None:
    encoder, (train, test) = load_encoder("fbank_stats"), corpora()
    train = Manifest(
        [
            replace(row, labels={**row.labels, "speaker": row.labels["speaker"] if i else ""})
            for i, row in enumerate(train)
        ]
    )
    report = evaluate_cross_corpus(encoder, {"test": test}, train=train, label="emotion", num_resamples=5)["test"]
    x, unseen = (encoder.embed_files(list(part)).embeddings.astype(np.float64) for part in (train, test))
    model = LogisticRegression(C=report.strengths[0], class_weight="balanced", max_iter=1000)
    expected = make_pipeline(StandardScaler(), model).fit(x, train.label("emotion")).predict(unseen)
    assert report.predicted.tolist() == expected.tolist()
    assert (report.num_utterances, report.num_folds, report.num_speakers) == (8, 0, 2)
    nameless = Manifest([replace(row, labels={"emotion": row.labels["emotion"]}) for row in test])
    report = evaluate_cross_corpus(encoder, {"test": nameless}, train=train, label="emotion", num_resamples=5)["test"]
    assert (report.num_utterances, report.resampled) == (8, "recordings")
    other = Manifest([replace(row, labels={**row.labels, "emotion": "calm"}) for row in test])
    with pytest.raises(InputError, match=r"column 'emotion' has calm, which .* has not; select the classes"):
        evaluate_cross_corpus(encoder, {"test": other}, train=train, label="emotion")
    calm = Manifest([replace(row, labels={**row.labels, "emotion": "calm"}) for row in train])
    with pytest.raises(InputError, match="expected two classes at least"):
        evaluate_cross_corpus(encoder, {"test": other}, train=calm, label="emotion")


def test_a_system_is_judged_by_what_a_corpus_has(corpora: Callable[..., tuple[Manifest, Manifest]]) -> None:
    _, test = corpora()
    encoder = build_encoder("xvector", embedding_dim=8, channels=[8] * 5, seed=0).eval()
    scale = Dimensions(("arousal", "valence"), (0.5, 0.4), (0.1, 0.2))
    system = FineTunedSystem(encoder, LinearHead(8, 2).eval(), scale, "ccc")
    test = rescale_labels(rename_labels(test, {"valence": "sentiment"}), ["valence"], (-3, 3), onto=(1, 7))
    reports = evaluate_cross_corpus(system, {"one": test, "two": test.subset([0, 1, 4, 5])})
    assert [report.num_utterances for report in reports.values()] == [8, 4]
    expected = system.predict(test).values[:, 1].astype(float)
    assert reports["one"].ccc == {"valence": ccc(np.array(test.numbers("valence")), expected)}
    classifier = FineTunedSystem(encoder, LinearHead(8, 2), Classes("emotion", ("happy", "neutral")), "cross_entropy")
    assert 0 <= evaluate_cross_corpus(classifier, {"one": test})["one"].uar <= 1


def test_mistakes_are_named(corpora: Callable[..., tuple[Manifest, Manifest]]) -> None:
    encoder, (train, test) = load_encoder("fbank_stats"), corpora()
    with pytest.raises(InputError, match=r"none of the columns valence; it has .*columns: \{valence: sentiment\}"):
        evaluate_cross_corpus(encoder, {"other": test}, train=train, labels=["valence"])
    with pytest.raises(InputError, match="speakers are on both sides"):
        evaluate_cross_corpus(encoder, {"other": train[:4]}, train=train, labels=["valence"])
    with pytest.raises(InputError, match="an encoder learns first"):
        evaluate_cross_corpus(encoder, {"other": test})
    with pytest.raises(InputError, match="no corpus to judge on"):
        evaluate_cross_corpus(encoder, {}, train=train, labels=["valence"])
    system = FineTunedSystem(encoder, LinearHead(160, 1), Dimensions(("valence",), (0.0,), (1.0,)), "ccc")
    with pytest.raises(InputError, match="the system says valence; expected only these, found 'arousal'"):
        evaluate_cross_corpus(system, {"other": test}, labels=["arousal"])


def test_command(
    corpora: Callable[..., tuple[Manifest, Manifest]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = [str(write_manifest(part, tmp_path / f"{n}.csv")) for n, part in enumerate(corpora())]
    words = [
        "evaluate",
        "regression",
        "--encoder",
        "fbank_stats",
        "--manifest",
        files[0],
        "--labels",
        "arousal,valence",
    ]
    other = ["--test-manifest", files[1], "--test-columns", "valence=sentiment"]
    ranges = ["--label-range", "1,7", "--test-range=-3,3"]
    assert main([*words, *other, *ranges, "--output", str(tmp_path / "out"), "--json"]) == 0
    answer = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert list(answer["ccc"]) == ["valence"]
    assert answer["num_folds"] == 0
    assert Path(answer["report"]).is_file()
    for wrong, message in (
        ([*other, "--label-range", "1,7"], "give both"),
        (["--test-range", "1,7"], "--test-range: there is no other corpus"),
        ([*other, "--folds", "3"], "judged as one"),
    ):
        assert main([*words, *wrong]) == 2
        assert message in capsys.readouterr().err
    with pytest.raises(SystemExit, match="2"):
        main([*words, *other, "--label-range", "7,1"])
    words = ["evaluate", "classification", *words[2:-2], "--label", "emotion"]
    capsys.readouterr()
    assert main([*words, "--test-manifest", files[1], "--json"]) == 0
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["num_utterances"] == 8
    assert main([*words, "--fold-column", "speaker", "--json"]) == 0
    assert list(json.loads(capsys.readouterr().out.splitlines()[-1])["fold_uars"]) == ["spk0", "spk1"]
    assert main([*words, "--test-manifest", files[1], "--keep-shared-speakers"]) == 2
    assert "--keep-shared-speakers: --test-manifest is judged as one" in capsys.readouterr().err


def test_leaks_are_looked_for_in_the_column_that_is_named_and_in_parts_of_a_recording(
    corpora: Callable[..., tuple[Manifest, Manifest]],
) -> None:
    encoder, (train, test) = load_encoder("fbank_stats"), corpora()
    learnt = {"train": train, "labels": ["valence"]}
    called = [replace(row, labels={"valence": "1", "person": row.labels["speaker"]}) for row in [*train, *test]]
    options = {"train": Manifest(called[:8]), "labels": ["valence"], "speaker": "person"}
    with pytest.raises(InputError, match=r"speakers are on both sides of the split \(spk1\)"):
        evaluate_cross_corpus(encoder, {"other": Manifest(called[6:])}, **options)
    part = replace(train[0], id="part", start=1000, stop=9000, labels={"speaker": "x", "valence": "1"})
    with pytest.raises(InputError, match=r"1 recordings of .* whole or in part"):
        evaluate_cross_corpus(encoder, {"other": Manifest([part, *test])}, **learnt)
    named = rename_labels(test, {"valence": "sentiment"})
    blank = Manifest([replace(named[0], labels={**named[0].labels, "speaker": ""}), *named[1:]])
    report = evaluate_cross_corpus(encoder, {"other": blank}, num_resamples=5, **learnt)["other"]
    assert any("column 'speaker' is blank in 1 of 8 rows: whether its speakers" in text for text in report.warnings)
