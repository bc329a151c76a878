"""IEMOCAP -> manifest: `python prepare.py SOURCE --output DIR`, the same as `dino-speech prepare iemocap ...`."""

import sys

from dino_speech.cli.main import main

if __name__ == "__main__":
    sys.exit(main(["prepare", "iemocap", *sys.argv[1:]]))
