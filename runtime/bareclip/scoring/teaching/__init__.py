"""Heads taught with examples, on arrays only: ``choosing`` asks ``probe``, or looks them up.

Needs SciPy (``bareclip[teach]``) to teach; what it gives needs NumPy to answer.
"""

from .choosing import METHODS, Examples, Method, teach

__all__ = ["METHODS", "Examples", "Method", "teach"]
