"""Which utterances there are: manifests, trials, folds, segments, labels made comparable, files checked.

`loading/` makes batches of them, `shards/` packs them into tars, `corpora/` makes manifests of published corpora.
"""
