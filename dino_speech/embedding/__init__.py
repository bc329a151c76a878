"""Every utterance embedded once: what to embed, in memory or on disk, in parts to which a stopped run returns.

What is computed from embeddings is in `evaluation/`; how a network embeds one batch is in `models/`.
"""
