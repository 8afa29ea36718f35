"""Attention mechanisms, one file each, and the cache that decoding needs."""
