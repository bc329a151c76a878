"""`python -m dino_speech` is `dino-speech`; with torchrun: `torchrun -m dino_speech pretrain RECIPE.yaml`."""

import sys

from dino_speech.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
