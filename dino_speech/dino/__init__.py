"""The method: self-distillation with no labels, for utterances of speech."""
