"""Scores from vectors: similarity, nearest neighbours, zero-shot classification."""
