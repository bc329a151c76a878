"""The errors that a person's input can cause; the command line prints their message without a traceback."""


class InputError(ValueError):
    """Something the person gave is wrong; the message names it, what was expected and the cure."""


class RecipeError(InputError):
    """A recipe names an unknown key, or something that a recipe may not construct."""


class UsageError(InputError):
    """The command line itself is wrong: an option that does not fit, a recipe of another command. Exit code 2."""


class RecipeOptionError(RecipeError, UsageError):
    """The same as `RecipeError`, of an option `--key value` that was given for a recipe."""
