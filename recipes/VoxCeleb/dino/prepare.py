"""VoxCeleb trees -> manifests and trials: `python prepare.py VOXCELEB1 VOXCELEB2 OUTPUT`.

Writes OUTPUT/voxceleb1 (manifest, trials O, E, H: what is judged on) and OUTPUT/voxceleb2 (manifest: what is learnt
from). The same as `dino-speech prepare voxceleb1 ...` and `dino-speech prepare voxceleb2 ...`.
"""

import argparse
import json
from pathlib import Path

from dino_speech.data.corpora.catalogue import prepare


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("voxceleb1")
    parser.add_argument("voxceleb2")
    parser.add_argument("output", type=Path)
    options = parser.parse_args()
    for corpus in ("voxceleb1", "voxceleb2"):
        summary = prepare(corpus, getattr(options, corpus), options.output / corpus)
        listed = {key: len(value) if isinstance(value, list) else value for key, value in summary.items()}
        print(json.dumps({corpus: listed}, indent=2))


if __name__ == "__main__":
    main()
