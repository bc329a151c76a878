"""The networks inside an encoder: ECAPA, x-vector, ResNet34, plain statistics; pooling and layers over time.

Each maps frames (B, T, F) and lengths to an embedding (B, D) that does not depend on the rest of the batch.
"""
