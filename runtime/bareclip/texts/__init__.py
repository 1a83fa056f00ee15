"""Texts: clean-up, token ids, prompts."""
