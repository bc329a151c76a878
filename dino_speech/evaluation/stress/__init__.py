"""How a figure changes: under noise and other conditions, between groups of people, and what an encoder costs.

Front doors: `evaluate_robustness`, `evaluate_fairness`, `measure_efficiency`.
"""
