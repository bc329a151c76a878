"""Studies: many trainings and evaluations as one table, one cell after the other, resumable."""
