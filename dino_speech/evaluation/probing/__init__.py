"""Labels read off frozen embeddings, or said by a fine-tuned system: classes, numbers, across corpora.

Front doors: `evaluate_classification`, `evaluate_regression`; across corpora `evaluate_cross_corpus`, of a fine-tuned
system `evaluate_finetuned`.
"""
