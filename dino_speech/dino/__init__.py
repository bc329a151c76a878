"""The method: head and prototypes, loss, centering, regularizers, teacher, collapse doctor, pretraining.

What any training needs is in `training/`; what is done with the encoder afterwards in `transfer/` and `evaluation/`.
"""
