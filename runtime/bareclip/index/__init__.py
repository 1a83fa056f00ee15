"""The photo index: one file that remembers a folder's photos by their vectors.

``store`` is the file, which ``opening`` opens; ``scan`` finds what is in a folder,
``inspection`` reads one file, ``sync`` brings the store up to date; ``vectors_file`` holds what is
searched exactly, ``hnsw`` what is searched approximately; ``query`` is what is asked, ``searching``
answers; ``duplicates`` finds what is there twice, ``overview`` draws a map; ``exchange`` moves
vectors to other systems; ``tagging`` sets a classifier on it, ``tag_rows`` keeps what that found,
``sidecars`` writes it beside the photos.
"""

from .duplicates import Duplicate, DuplicateGroup
from .overview import MapPoint, Overview
from .photo_index import Index, IndexStatus
from .query import Like, Mix
from .sync import FileFailure, SyncProgress, SyncReport
from .tagging import TagReport

__all__ = [
    "Duplicate",
    "DuplicateGroup",
    "FileFailure",
    "Index",
    "IndexStatus",
    "Like",
    "MapPoint",
    "Mix",
    "Overview",
    "SyncProgress",
    "SyncReport",
    "TagReport",
]
