"""Reports on paper: tables, curves, pictures, and folders of results.

What the figures are is decided elsewhere; here they are only written and drawn.
"""
