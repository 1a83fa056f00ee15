"""Classifiers: labels for one model's vectors, to ask, to save and to read again.

``classifier`` is what answers, ``saved`` its file.
"""

from .classifier import Classifier, parse_classifier, read_classifier

__all__ = ["Classifier", "parse_classifier", "read_classifier"]
