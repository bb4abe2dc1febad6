"""The flight recorder: what happened before an engine died, kept for whoever asks afterwards."""
