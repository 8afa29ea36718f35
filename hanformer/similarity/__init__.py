"""Texts as vectors, and how alike they are."""
