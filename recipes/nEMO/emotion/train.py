"""Fine-tune: `python train.py hparams/staged.yaml --encoder.source=DIR [--key=value]`, as `dino-speech finetune`."""

import sys

from dino_speech.cli.main import main

if __name__ == "__main__":
    sys.exit(main(["finetune", *sys.argv[1:]]))
