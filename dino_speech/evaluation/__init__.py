"""What an encoder or a system is worth: rooms for verification, probing, layers, clinical questions, stress, reports.

Every report has `to_dict()`, `skipped` (what was left out, and why) and `provenance` (versions, seed, manifests).
`monitor.py` looks at an encoder while it trains. Nothing here is fitted on what it is judged on.
"""
