"""Many trainings as one table: grids over systems and seeds, folds, adaptation, transfer.

`comparison/` holds encoders side by side without training them. A single evaluation is in `evaluation/`.
"""
