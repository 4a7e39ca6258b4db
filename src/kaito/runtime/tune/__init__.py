"""Tuning: the strict config, tokens out of the data set, training that survives, and the report."""
