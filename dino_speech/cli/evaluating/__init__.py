"""The commands that judge: `evaluate ...`, `compare`, `probe`, and what they share.

Commands that prepare, train or embed are in the room above.
"""
