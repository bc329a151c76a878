"""The kinds of recipes: by which key one is known, which further keys it may hold, which command runs it."""

from dataclasses import dataclass

from dino_speech.recipe.yaml_text import Node, get

DATA = ("train_manifest", "where", "output_folder")
TEST = ("test_manifest", "test_where")


@dataclass(frozen=True)
class RecipeKind:
    """One kind of recipe.

    Attributes:
        key: the top-level key that only this kind has; its object does the work.
        commands: what runs it.
        further: the other top-level keys that it may hold.
    """

    key: str
    commands: tuple[str, ...]
    further: tuple[str, ...]

    @property
    def keys(self) -> tuple[str, ...]:
        """Every top-level key that something reads."""
        return (*DATA, self.key, *self.further)


TUNING = ("valid_manifest", "valid_where", *TEST, "fold_column", "num_folds", "clinical", "label_range", "others")
KINDS = (
    RecipeKind("trainer", ("pretrain",), ("seed", "crops", "encoder", "monitor")),
    RecipeKind("tuner", ("finetune", "train-supervised"), ("seed", "encoder", "stages", *TUNING)),
    RecipeKind(
        "study", ("study",), ("seeds", "stages", "trials", "trials_manifest", "group_by", "label_range", "others")
    ),
    RecipeKind(
        "pseudo_labels", ("pseudo-label",), ("seed", "encoder", "clustering", "stages", "monitor", "quality_label")
    ),
    RecipeKind("adapter", ("adapt",), ("seed", "encoder")),
    RecipeKind(
        "distiller",
        ("distill",),
        ("seed", "teacher", "student", "readout", "labelled_manifest", "labelled_where", *TEST),
    ),
)


def kind_of(tree: Node, command: str | None = None) -> RecipeKind:
    """The kind of a recipe by its key; that of the command (or of pretraining) where no key tells."""
    kinds = [kind for kind in KINDS if get(tree, kind.key) is not None]
    # `trainer` last: a study or a tuner may keep settings for trainers under that name
    found = [kind for kind in kinds if kind.key != "trainer"] or kinds
    found = found or [kind for kind in KINDS if command in kind.commands] or [KINDS[0]]
    return found[0]
