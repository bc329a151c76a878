"""A folder -> manifest: `python prepare.py SOURCE [--speaker-from-parent] --output DIR`, as `dino-speech prepare` does.

Copy and change it where the speaker, the session or another label stands in the file's name: all columns but `ID`,
`duration`, `wav`, `start`, `stop` are labels.
"""

import sys

from dino_speech.cli.main import main

if __name__ == "__main__":
    sys.exit(main(["prepare", "folder", *sys.argv[1:]]))
