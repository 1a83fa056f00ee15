"""Makers of checkpoints with seeded weights; tests and benchmarks take theirs from here."""
