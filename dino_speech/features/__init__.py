"""Features of speech: batched log-mel on the model's device."""
