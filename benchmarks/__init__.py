"""Comparisons and measurements; nothing here is installed."""
