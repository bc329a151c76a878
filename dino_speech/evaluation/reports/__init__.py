"""Reports on paper: tables, curves, pictures, and folders of results. What the figures are is decided elsewhere.

Front doors: `write_results` for whole evaluations, `write_report` for tables and pictures of one's own.
"""
