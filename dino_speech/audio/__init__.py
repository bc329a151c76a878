"""Sound: reading files, cutting crops, augmentation, synthetic voices."""
