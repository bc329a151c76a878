"""The errors that a person's input can cause; the command line prints their message without a traceback."""


class InputError(ValueError):
    """Something the person gave is wrong; the message names it, what was expected and the cure."""


class RecipeError(InputError):
    """A recipe names an unknown key, or something that a recipe may not construct."""
