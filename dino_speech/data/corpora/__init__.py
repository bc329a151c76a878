"""One module per corpus: its layout on disk turned into manifests, trials and folds."""
