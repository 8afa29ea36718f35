"""Data on its way to a model: safe readers of files, and batches cut by a budget of tokens."""
