"""Hostile recipes: each is refused before anything of it runs, or is read as the harmless text that it is."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from dino_speech.errors import RecipeError
from dino_speech.recipe import load_recipe

MARK = "crops"

CALLS = [
    "!new:os.system ['touch {proof}']",
    "!apply:os.system ['touch {proof}']",
    "!name:os.system ['touch {proof}']",
    "!apply:subprocess.check_call [[touch, {proof}]]",
    "!new:subprocess.Popen [[touch, {proof}]]",
    '!apply:builtins.eval [\'open("{proof}", "w")\']',
    '!apply:eval [\'open("{proof}", "w")\']',
    '!apply:builtins.exec [\'open("{proof}", "w")\']',
    "!new:builtins.open ['{proof}', w]",
    "!apply:importlib.import_module [antigravity]",
    "!apply:torch.load [model.pt]",
    "!apply:torch.hub.load [a/b, c]",
    "!name:torch.jit.load []",
    "!new:torch.nn.DataParallel []",
    "!new:torch.nn.Module.__init_subclass__ []",
    "!new:torch.nn.__builtins__ []",
    "!new:torch.nn.parallel.DistributedDataParallel []",
    "!new:torch.nn.modules.Linear [1, 2]",
    "!new:torch.optim.__spec__ []",
    "!apply:torch.nn.init.torch.load [model.pt]",
    "!new:speechbrain.inference.classifiers.EncoderClassifier []",
    "!apply:speechbrain.dataio.dataio.load_pkl [model.pkl]",
    "!apply:speechbrain.utils.fetching.fetch [a, b]",
    "!apply:speechbrain.utils.importutils.os.system ['touch {proof}']",
    "!apply:dino_speech.recipe.load.load_recipe [other.yaml]",
    "!apply:dino_speech.audio.io.os.remove ['x']",
    "!apply:dino_speech.provenance.subprocess.run [[touch, {proof}]]",
    "!name:dino_speech.det_plot {{path: '{proof}', curves: {{}}}}",
    "!name:dino_speech.write_results ['{proof}']",
    "!name:dino_speech.MultiCrop {{num_long: 2}}",
    "!new:speechbrain.lobes.models.ECAPA_TDNN.ECAPA_TDNN {{input_size: 8, activation: !name:dino_speech.det_plot []}}",
    "!new:torch.optim.lr_scheduler.LambdaLR {{lr_lambda: !name:dino_speech.det_plot []}}",
    "!new:torch.optim.AdamW [[]]",
    "!name:dino_speech.MultiCrop.__init__.__globals__ []",
    "!apply:dino_speech.load_audio [a.wav]",
    "!apply:dino_speech.evaluate_verification []",
    "!new:DINO_SPEECH.MultiCrop []",
    "!new:dino_speech.MultiCrop.plan []",
    "!new:dino_speech. []",
    "!new: []",
    "!new:%6fs.system ['touch {proof}']",
    "!<!apply:os.system> ['touch {proof}']",
    "!!python/object/apply:os.system ['touch {proof}']",
    "!!python/object/new:subprocess.Popen [[touch, {proof}]]",
    "!!python/name:os.system ''",
    "!!python/module:os ''",
    "!<tag:yaml.org,2002:python/object/apply:os.system> ['touch {proof}']",
    "!module:os",
    "!applyref:os.system ['touch {proof}']",
    "!include:/etc/passwd",
    "!include:other.yaml",
    "!!binary aGVsbG8=",
    "!!set {{a, b}}",
    "!unknown 1",
    "[1, {{a: !apply:os.system ['touch {proof}']}}]",
    "!new:torch.nn.Linear {{in_features: !apply:os.system ['touch {proof}'], out_features: 1}}",
]


@pytest.mark.parametrize("value", CALLS)
@pytest.mark.parametrize("way", ["file", "option", "base"])
def test_refused(tmp_path: Path, value: str, way: str) -> None:
    proof, file = tmp_path / "proof", tmp_path / "hostile.yaml"
    hostile = value.format(proof=proof)
    (tmp_path / "other.yaml").write_text("a: 1\n")
    file.write_text("seed: 1\n" if way != "file" else f"seed: 1\n{MARK}: {hostile}\n")
    if way == "base":
        file.rename(tmp_path / "light.yaml")
        file.write_text(f"{MARK}: {hostile}\n")
        (tmp_path / "light.yaml").write_text("base: hostile.yaml\n")
        file = tmp_path / "light.yaml"
    with pytest.raises(RecipeError, match=r"not allowed|plain|other than"):
        load_recipe(file, [f"--{MARK}={hostile}"] if way == "option" else [])
    assert not proof.exists()


@pytest.mark.parametrize(
    "text",
    [
        "{mark}: (!!python/object/apply:os.system ['touch {proof}'])",
        "{mark}: '(!!python/object/apply:os.system [touch {proof}])'",
        "a: (\n{mark}: !ref <a>!!python/object/apply:os.system ['touch {proof}'])",
        "a: '!apply:os.system [touch {proof}]'\n{mark}: !ref <a>",
        "{mark}: !tuple (!!python/object/apply:os.system [touch {proof}])",
        "a: os.system\n{mark}: !ref __import__('<a>')",
    ],
)
def test_texts_stay_texts(tmp_path: Path, text: str) -> None:
    proof, file = tmp_path / "proof", tmp_path / "hostile.yaml"
    file.write_text(text.format(proof=proof, mark=MARK))
    assert isinstance(load_recipe(file)[MARK], str)
    assert not proof.exists()


@pytest.mark.slow
def test_hyperpyyaml_alone_would_run_such_a_text(tmp_path: Path) -> None:
    """Why the reader is strict: this is the text that stays a text above."""
    (tmp_path / "hostile.yaml").write_text(f"{MARK}: '(!!python/object/apply:os.system [touch proof])'")
    strict, trusting = (f"load_recipe('hostile.yaml'{more})" for more in ("", ", trust=True"))
    unharmed = "import pathlib; assert not pathlib.Path('proof').exists()"
    assert not _in_new_process(tmp_path, f"{strict}\n{unharmed}\n{trusting}")
    assert (tmp_path / "proof").exists()


def test_a_directive_does_not_hide_a_tag(tmp_path: Path) -> None:
    file = tmp_path / "hostile.yaml"
    file.write_text("%TAG !e! tag:yaml.org,2002:python/object/\n---\ncrops: !e!apply:os.system [id]\n")
    with pytest.raises(RecipeError, match=r"!!python/object/apply:os.system is not allowed"):
        load_recipe(file)


def _aliases(line: Callable[[int], str], first: str) -> str:
    return first + "".join(line(level) for level in range(1, 12))


BOMBS = {
    "aliases": _aliases(lambda n: f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]\n", "a0: &a0 [x, x]\n"),
    "references": _aliases(lambda n: f"a{n}: [{', '.join([f'!ref <a{n - 1}>'] * 10)}]\n", "a0: [x, x]\n"),
    "copies": _aliases(lambda n: f"a{n}: [{', '.join([f'!copy <a{n - 1}>'] * 10)}]\n", "a0: [x, x]\n"),
    "texts": _aliases(lambda n: f"a{n}: !ref {f'<a{n - 1}>' * 10}\n", "a0: xxxxxxxxxx\n"),
    "itself": "seed: &a [*a]\n",
    "reference to itself": "seed: !ref <where>\nwhere: !ref <seed>\n",
    "depth": "seed: " + "[" * 60 + "]" * 60,
    "length": "seed: " + "x" * 200_000,
}


@pytest.mark.parametrize("name", BOMBS)
def test_bombs_are_refused(tmp_path: Path, name: str) -> None:
    file = tmp_path / "bomb.yaml"
    file.write_text(BOMBS[name])
    with pytest.raises(RecipeError, match=r"larger than|refers to itself|too deeply|at most"):
        load_recipe(file)


@pytest.mark.parametrize(
    "text",
    [
        "a: 9\nseed: !ref <a>**<a>**<a>**<a>",
        "a: 9**9**9**9\nseed: !ref <a> + 1",
        "a: \"'x'\"\nseed: !ref <a> * 999999999",
        "a: '[1]'\nseed: !ref <a> * 999999999",
        "a: 1\nseed: !ref <a> << 99999999999",
        "a: 1\nseed: !ref (lambda x<a>:0).__class__",
    ],
)
def test_arithmetic_cannot_fill_the_memory(tmp_path: Path, text: str) -> None:
    file = tmp_path / "bomb.yaml"
    file.write_text(text)
    assert isinstance(load_recipe(file)["seed"], str)


def test_attributes_of_finished_objects_cannot_be_reached(tmp_path: Path) -> None:
    file = tmp_path / "hostile.yaml"
    file.write_text("encoder: !new:torch.nn.GELU\nseed: !ref <encoder.__class__>\n")
    with pytest.raises(RecipeError, match=r"line 2: reference <encoder.__class__>: expected <key>"):
        load_recipe(file)


def test_trust_must_be_said(tmp_path: Path) -> None:
    file = tmp_path / "own.yaml"
    file.write_text("seed: !apply:operator.mul [6, 7]\n")
    with pytest.raises(RecipeError, match="--trust-recipe"):
        load_recipe(file)
    assert load_recipe(file, trust=True)["seed"] == 42
    with pytest.raises(RecipeError, match="did you mean 'seed'"):
        load_recipe(file, ["--sed=1"], trust=True)


@pytest.mark.slow
def test_refusing_imports_nothing_that_the_recipe_names(tmp_path: Path) -> None:
    (tmp_path / "evil.py").write_text("open('proof', 'w')\n")
    (tmp_path / "hostile.yaml").write_text("crops: !new:evil.Thing\nencoder: !name:evil\ntrainer: !module:evil\n")
    assert "RecipeError" in _in_new_process(tmp_path, "load_recipe('hostile.yaml')")
    assert not (tmp_path / "proof").exists()


def _in_new_process(folder: Path, call: str) -> str:
    """What a fresh Python writes to stderr."""
    code = f"from dino_speech.recipe import load_recipe\n{call}"
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[2])}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    return done.stderr


@pytest.mark.slow
@pytest.mark.parametrize(
    "value",
    [
        "!new:torch.nn.Linear {in_features: 1000000, out_features: 1000000}",
        "!new:torch.nn.Embedding [1000000000, 100000]",
        "!apply:dino_speech.build_encoder {name: ecapa_tdnn, channels: 1000000}",
    ],
)
def test_a_huge_network_is_refused_before_memory_is_taken(tmp_path: Path, value: str) -> None:
    file = tmp_path / "hostile.yaml"
    file.write_text(f"seed: 1\n{MARK}: {value}\n")
    with pytest.raises(RecipeError, match=r"hostile.yaml line 2: .*more than .* numbers"):
        load_recipe(file)


def test_a_layer_may_be_named(tmp_path: Path) -> None:
    file = tmp_path / "fine.yaml"
    file.write_text(f"{MARK}: !name:torch.nn.LeakyReLU {{negative_slope: 0.1}}\n")
    assert load_recipe(file)[MARK]().negative_slope == 0.1
