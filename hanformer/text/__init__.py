"""Strings and token ids: vocabularies, normalisation with exact places, tokenizers."""
