"""Synthetic voices and the corpus spoken with them; no recording of a person, and no trained model."""
