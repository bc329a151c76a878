"""EmoDB -> manifest: `python prepare.py EMODB OUTPUT`.

The same as `dino-speech prepare emodb EMODB --output OUTPUT`.
"""

import argparse
import json

from dino_speech.data.corpora.emodb import prepare_emodb


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("source")
    parser.add_argument("output")
    options = parser.parse_args()
    summary = prepare_emodb(options.source, options.output)
    listed = {key: len(value) if isinstance(value, list) else value for key, value in summary.items()}
    print(json.dumps(listed, indent=2))


if __name__ == "__main__":
    main()
