"""Which utterances there are: manifests, trials, folds, segments, labels made comparable, files checked.

`loading/` turns them into batches, `shards/` packs them into tars, `corpora/` makes manifests of published corpora. No
network is known here.
"""
