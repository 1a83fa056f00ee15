"""Answers as pictures and pages."""
