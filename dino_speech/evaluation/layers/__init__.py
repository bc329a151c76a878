"""What each layer of an encoder knows: probes, trials and CCA with acoustic descriptors, layer by layer.

Front doors: `probe_layers`, and `write_layers` for its report.
"""
