"""Published corpora in their own layouts, made into manifests: a module per corpus, and what they share.

No audio is copied, and no licence is granted: each corpus is the user's own copy.
"""
