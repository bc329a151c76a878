"""Batches of crops by position: data set, order of an epoch, loaders, the cache, files that were skipped.

A batch depends on the seed and the step alone. How crops are drawn is in `audio/crops.py`.
"""
