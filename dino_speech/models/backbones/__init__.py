"""The networks inside an encoder: frames (B, T, F) and lengths to (B, D), whatever the rest of the batch is."""
