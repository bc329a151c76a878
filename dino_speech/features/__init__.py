"""What a network hears: log-mel frames, or the wave itself, computed on the model's device in float32.

Masking of frames for training is in `audio/spec_augment.py`.
"""
