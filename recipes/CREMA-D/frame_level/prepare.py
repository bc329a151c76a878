"""CREMA-D -> manifest: `python prepare.py SOURCE --output DIR`, as `dino-speech prepare` does."""

import sys

from dino_speech.cli.main import main

if __name__ == "__main__":
    sys.exit(main(["prepare", "crema-d", *sys.argv[1:]]))
