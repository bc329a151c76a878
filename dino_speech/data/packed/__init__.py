"""Many rows in little memory. Manifests, which are made of them, are in `utterances.py` above."""
