"""Same speaker or not: scored trials, back-ends, score normalisation, calibration, EER and its kin.

Front door: `evaluate.py`. The figures themselves are in `metrics.py`.
"""
