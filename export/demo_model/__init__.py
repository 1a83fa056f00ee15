"""Trains the small CLIP model that the demo ships with, on pictures it draws itself."""
