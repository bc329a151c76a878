"""Files to waves: reading, decoding, where bytes lie, crops, augmentation, voice activity.

Everything here works on waves (time,) or (B, time) at 16 kHz. Log-mel is in `features/`, manifests in `data/`,
stress conditions in `evaluation/stress/`.
"""
