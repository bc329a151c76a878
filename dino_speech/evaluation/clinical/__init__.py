"""Questions about a person's health: people and not utterances, balance of groups, the silence control.

Front door: `evaluate_clinical`. A figure here is not a diagnosis.
"""
