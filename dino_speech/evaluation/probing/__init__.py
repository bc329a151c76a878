"""Labels read off frozen embeddings, or said by a fine-tuned system: classes, numbers, across corpora.

Front doors: `classification.py`, `regression.py`, `cross_corpus.py`, `finetuned.py`.
"""
