"""RAVDESS -> manifest: `python prepare.py SOURCE --output DIR`, the same as `dino-speech prepare ravdess ...`."""

import sys

from dino_speech.cli.main import main

if __name__ == "__main__":
    sys.exit(main(["prepare", "ravdess", *sys.argv[1:]]))
