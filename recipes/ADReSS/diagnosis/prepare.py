"""ADReSS (2020) and ADReSSo (2021) -> manifests: `python prepare.py adress|adresso SOURCE OUTPUT`.

The same as `dino-speech prepare adress SOURCE --output OUTPUT`, or `adresso`.
"""

import argparse
import json

from dino_speech.data.corpora.adress import prepare_adress
from dino_speech.data.corpora.adresso import prepare_adresso

CHALLENGES = {"adress": prepare_adress, "adresso": prepare_adresso}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("challenge", choices=CHALLENGES)
    parser.add_argument("source")
    parser.add_argument("output")
    options = parser.parse_args()
    summary = CHALLENGES[options.challenge](options.source, options.output)
    listed = {key: len(value) if isinstance(value, list) else value for key, value in summary.items()}
    print(json.dumps(listed, indent=2))


if __name__ == "__main__":
    main()
