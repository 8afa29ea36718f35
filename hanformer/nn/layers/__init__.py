"""Modules with one idea each: embeddings, feed-forward, block, heads."""
