"""Manifests, trials, speaker-disjoint folds, datasets and loaders."""
