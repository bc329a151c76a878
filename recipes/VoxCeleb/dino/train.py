"""Pretrain as a recipe says: `python train.py hparams/light_resnet34.yaml [--key=value ...]`.

The same as `dino-speech pretrain`; on several GPUs: `torchrun --nproc-per-node=2 train.py hparams/ecapa.yaml`.
"""

import json
import sys

from dino_speech.errors import InputError
from dino_speech.recipe import load_recipe, run_pretraining


def main(recipe: str, *overrides: str) -> None:
    summary = run_pretraining(load_recipe(recipe, overrides))
    print(json.dumps(summary, indent=2))


if __name__ == "__main__":
    try:
        main(*sys.argv[1:])
    except InputError as error:
        sys.exit(f"error: {error}")
