"""What an encoder is worth: verification, classification, monitoring, reports."""
