"""Frame-level self-supervised encoders: wav2vec 2.0, HuBERT, WavLM."""
