"""Recipes: HyperPyYAML files read strictly, so that a recipe from a stranger can construct only harmless things."""

from dino_speech.recipe.commands.encoders import run_adaptation, run_distillation, run_pretraining, run_pseudo_labels
from dino_speech.recipe.commands.finetuning import run_finetuning
from dino_speech.recipe.commands.studying import run_study
from dino_speech.recipe.load import Recipe, load_recipe

__all__ = [
    "Recipe",
    "load_recipe",
    "run_adaptation",
    "run_distillation",
    "run_finetuning",
    "run_pretraining",
    "run_pseudo_labels",
    "run_study",
]
