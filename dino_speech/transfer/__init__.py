"""From a pretrained encoder to a task: stages of fine-tuning, heads, pseudo-labels."""
