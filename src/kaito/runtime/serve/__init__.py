"""The server of the inference pod: one HTTP surface in front of an engine."""
