"""Recipes: HyperPyYAML files read strictly, so that a recipe from a stranger can construct only harmless things."""

from dino_speech.recipe.finetuning import run_finetuning
from dino_speech.recipe.load import Recipe, load_recipe
from dino_speech.recipe.pretraining import run_pretraining

__all__ = ["Recipe", "load_recipe", "run_finetuning", "run_pretraining"]
