"""What every training shares: state, run identity, history, progress, signals, schedules, optimizer, checks.

What is learnt, and by which loss, is in `dino/`, `frame_level/` and `transfer/`.
"""
