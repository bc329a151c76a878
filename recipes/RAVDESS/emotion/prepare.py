"""RAVDESS -> manifest: `python prepare.py RAVDESS OUTPUT`.

The same as `dino-speech prepare ravdess RAVDESS --output OUTPUT`.
"""

import argparse
import json

from dino_speech.data.corpora.ravdess import prepare_ravdess


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("source")
    parser.add_argument("output")
    options = parser.parse_args()
    summary = prepare_ravdess(options.source, options.output)
    listed = {key: len(value) if isinstance(value, list) else value for key, value in summary.items()}
    print(json.dumps(listed, indent=2))


if __name__ == "__main__":
    main()
