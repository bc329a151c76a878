"""nEMO -> manifest: `python prepare.py SOURCE --output DIR`, the same as `dino-speech prepare nemo ...`."""

import sys

from dino_speech.cli.main import main

if __name__ == "__main__":
    sys.exit(main(["prepare", "nemo", *sys.argv[1:]]))
