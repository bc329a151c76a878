"""URDU -> manifest: `python prepare.py SOURCE --output DIR`, the same as `dino-speech prepare urdu ...`."""

import sys

from dino_speech.cli.main import main

if __name__ == "__main__":
    sys.exit(main(["prepare", "urdu", *sys.argv[1:]]))
