"""From an encoder to an answer: stages, heads, losses, targets, fine-tuning, systems on disk, pseudo-labels.

`audio_text/` adds the text of what was said. Judging a system is in `evaluation/`, many of them in `studies/`.
"""
