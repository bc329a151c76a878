"""Encoders side by side in one table: figures with intervals, robustness, fairness, cost.

Front door: `compare.py`. Finished parts are kept, so that a stopped comparison goes on.
"""
