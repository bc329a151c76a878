"""MSP-Podcast -> manifests: `python prepare.py MSP_PODCAST OUTPUT`.

The same as `dino-speech prepare msp-podcast MSP_PODCAST --output OUTPUT`.
"""

import argparse
import json

from dino_speech.data.corpora.msp_podcast import prepare_msp_podcast


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("source")
    parser.add_argument("output")
    options = parser.parse_args()
    summary = prepare_msp_podcast(options.source, options.output)
    listed = {key: len(value) if isinstance(value, list) else value for key, value in summary.items()}
    print(json.dumps(listed, indent=2))


if __name__ == "__main__":
    main()
