"""Encoders: waveforms in, one vector per utterance out; built by name, kept in folders, whitened.

The networks are in `backbones/`; wav2vec 2.0 and its kin in `frame_level/`. No training is done here.
"""
