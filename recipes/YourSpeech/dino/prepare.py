"""A folder of recordings -> manifest: `python prepare.py RECORDINGS OUTPUT [--speaker-from-parent]`.

The same as `dino-speech prepare folder RECORDINGS --output OUTPUT`. Copy and change it where the speaker, the
session or another label stands in the file's name: all columns but `ID`, `duration`, `wav`, `start`, `stop` are labels.
"""

import argparse
import json

from dino_speech.data.corpora.folder import prepare_folder


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("recordings")
    parser.add_argument("output")
    parser.add_argument("--speaker-from-parent", action="store_true", help="a file's folder is its speaker")
    options = parser.parse_args()
    summary = prepare_folder(options.recordings, options.output, speaker_from_parent=options.speaker_from_parent)
    print(json.dumps(summary, indent=2))


if __name__ == "__main__":
    main()
