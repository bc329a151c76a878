"""Synthetic voices and the corpus that the quickstart and the tests speak with them.

No recording of a person is in it, and no model is trained here.
"""
