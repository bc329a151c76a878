"""Encoders: waveforms in, one embedding per utterance out."""
