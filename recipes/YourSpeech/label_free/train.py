"""Train as a recipe says: `python train.py hparams/RECIPE.yaml [--key value ...]`; `--help` lists the recipes here."""

import sys

from dino_speech.cli.recipe_script import train

if __name__ == "__main__":
    sys.exit(train(__file__))
