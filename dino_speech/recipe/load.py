"""From a recipe's file and the options of a command line to its finished values.

A pretraining recipe holds `train_manifest`, `where`, `output_folder`, `seed`, `crops`, `encoder`, `trainer`,
`monitor`; a fine-tuning recipe, which is one that holds a `tuner`, also manifests and conditions for validation and
test, or folds, or a clinical question; one that holds a `study` trials and further corpora; one that holds
`pseudo_labels` a monitor; one that holds an `adapter` or a `distiller` what these begin with; each, to state only its
difference from another recipe, `base`. Any further key must be read by some `!ref`: a key that nothing reads is a
misspelt one.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from dino_speech.errors import RecipeError
from dino_speech.recipe.construct import construct_tree
from dino_speech.recipe.nodes import read_tree
from dino_speech.recipe.references import referenced_keys, resolve, weigh
from dino_speech.recipe.safety import check_complete, check_names, check_tree
from dino_speech.recipe.yaml_text import get, to_text

KEYS = ("train_manifest", "where", "output_folder", "seed", "crops", "encoder", "trainer", "monitor")
TUNING_KEYS = (
    *("train_manifest", "where", "valid_manifest", "valid_where", "test_manifest", "test_where"),
    *("output_folder", "seed", "encoder", "stages", "tuner"),
    *("fold_column", "num_folds", "clinical", "label_range", "others"),
)
STUDY_KEYS = (
    *("train_manifest", "where", "trials", "trials_manifest", "group_by", "label_range", "others"),
    *("output_folder", "seeds", "stages", "study"),
)
PSEUDO_LABEL_KEYS = (
    *("train_manifest", "where", "output_folder", "seed", "encoder", "clustering", "stages", "pseudo_labels"),
    *("monitor", "quality_label"),
)
ADAPTATION_KEYS = ("train_manifest", "where", "output_folder", "seed", "encoder", "adapter")
DISTILLATION_KEYS = (
    *("train_manifest", "where", "labelled_manifest", "labelled_where", "test_manifest", "test_where"),
    *("output_folder", "seed", "teacher", "student", "distiller", "readout"),
)
KEYS_BY_KIND = {
    "tuner": TUNING_KEYS,
    "study": STUDY_KEYS,
    "pseudo_labels": PSEUDO_LABEL_KEYS,
    "adapter": ADAPTATION_KEYS,
    "distiller": DISTILLATION_KEYS,
}


class Recipe(dict[str, Any]):
    """The values of a recipe, by key.

    Attributes:
        path: the file.
        text: the recipe as it was used, with its base and the options of the command line, as YAML.
    """

    path: Path
    text: str


def load_recipe(path: str | Path, overrides: Iterable[str] = (), *, trust: bool = False) -> Recipe:
    r"""Read a recipe; everything in it is checked before anything in it is constructed.

    Args:
        path: a HyperPyYAML file.
        overrides: texts `--key=value` or `--key.subkey=value`, as on the command line; checked like the file.
        trust: let the recipe name any Python object, and leave the reading to `hyperpyyaml`. Like running a program.

    Raises:
        RecipeError: a key is unknown, a name not allowed, a value missing, or a constructor refuses its arguments.

    Example:
        >>> import tempfile
        >>> file = Path(tempfile.mkdtemp(), "small.yaml")
        >>> _ = file.write_text("seed: 1986\noutput_folder: !ref results/<seed>")
        >>> load_recipe(file, ["--seed=3"])
        {'seed': 3, 'output_folder': 'results/3'}
    """
    tree = read_tree(path, overrides)
    if not trust:
        weigh(tree)
        check_tree(tree)
    further = referenced_keys(tree)
    keys = next((known for kind, known in KEYS_BY_KIND.items() if get(tree, kind) is not None), KEYS)
    check_names(((k.value, k) for k, _ in tree.value if k.value not in further), keys, "a recipe")
    check_complete(tree)
    text = to_text(tree)
    recipe = Recipe(_load_trusted(text, path) if trust else construct_tree(resolve(tree)))
    recipe.path, recipe.text = Path(path), text
    return recipe


def _load_trusted(text: str, path: str | Path) -> dict[str, Any]:
    from hyperpyyaml import load_hyperpyyaml

    try:
        return dict(load_hyperpyyaml(text))
    except (ValueError, TypeError, ImportError, KeyError) as error:
        raise RecipeError(f"{path}: {error}") from error
