"""Fine-tune as a recipe says: `python train.py hparams/staged.yaml --train_manifest=train.csv [--key=value ...]`.

The same as `dino-speech finetune`, in the lines that a person would change.
"""

import json
import sys

from dino_speech.errors import InputError
from dino_speech.recipe import load_recipe, run_finetuning


def main(recipe: str, *overrides: str) -> None:
    summary = run_finetuning(load_recipe(recipe, overrides))
    print(json.dumps(summary, indent=2))


if __name__ == "__main__":
    try:
        main(*sys.argv[1:])
    except InputError as error:
        sys.exit(f"error: {error}")
