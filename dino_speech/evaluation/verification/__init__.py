"""Same speaker or not: scored trials, back-ends, score normalisation, calibration, EER and its kin.

Front doors: `evaluate_verification`, and `Verifier` for two files. The figures themselves are in `metrics.py`.
"""
