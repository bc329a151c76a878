"""wav2vec 2.0, HuBERT and WavLM as encoders, and their trainings: TAPT, P-TAPT, distillation.

Fine-tuning them on labels (V-FT) is in `transfer/`, as for any encoder; judging layers in `evaluation/layers/`.
"""
