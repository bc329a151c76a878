"""What each layer of an encoder knows: probes, trials and CCA with acoustic descriptors, layer by layer.

Front door: `probe_layers.py`.
"""
