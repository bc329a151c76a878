"""What an encoder or a system is worth: rooms for verification, probing, layers, clinical questions, stress, reports.

`monitor.py` looks at an encoder while it trains. Nothing here is fitted on what it is judged on.
"""
