"""Utterances packed into tars for storage that is slow to read at random: writing and reading.

A shard's rows are a manifest like any other once `reading` has read them.
"""
