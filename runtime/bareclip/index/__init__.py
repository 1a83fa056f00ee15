"""The photo index: one file that remembers a folder's photos by their vectors.

``store`` is the file, ``scan`` finds what is in a folder, ``prepare`` reads one picture,
``sync`` brings the store up to date; ``matrix`` and ``exact`` answer questions, ``graph``
approximately; ``render`` shows the answers, ``exchange`` moves vectors to other systems.
"""

from .photo_index import Index

__all__ = ["Index"]
