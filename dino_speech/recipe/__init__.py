"""Recipes: HyperPyYAML files read strictly, so that a recipe from a stranger can construct only harmless things."""

from dino_speech.recipe.load import Recipe, load_recipe

__all__ = ["Recipe", "load_recipe"]
