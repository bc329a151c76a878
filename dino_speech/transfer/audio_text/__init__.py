"""Systems that hear an utterance and read its words: layers and text fused, tuned, kept on disk.

Systems that only hear are in the room above.
"""
