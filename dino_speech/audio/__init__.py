"""Files to waves: reading, decoding, where bytes lie, crops, augmentation, voice activity; (time,) or (B, time)."""
