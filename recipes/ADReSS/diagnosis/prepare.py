"""ADReSS(o) -> manifest: `python prepare.py adress|adresso SOURCE --output DIR`, as `dino-speech prepare` does."""

import sys

from dino_speech.cli.main import main

if __name__ == "__main__":
    sys.exit(main(["prepare", *sys.argv[1:]]))
