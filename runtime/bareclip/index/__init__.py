"""The photo index: one file that remembers a folder's photos by their vectors.

``photo_index`` is what is used. ``store`` is the file, which ``opening`` opens and ``database``
makes; ``item_rows``, ``file_rows``, ``vector_rows`` and ``tag_rows`` read and write its tables;
``scan`` finds what is in a folder, ``inspection`` reads one file, ``sync`` brings the store up to
date, ``adding`` takes what was made elsewhere; ``vectors_file`` holds what is searched exactly,
``hnsw`` what is searched approximately; ``query`` is what is asked, ``filters`` among which items,
``searching`` answers; ``duplicates`` finds what is there twice, ``overview`` draws a map;
``exchange`` moves vectors to other systems; ``tagging`` sets a classifier on it, ``sidecars``
writes what that found beside the photos; ``status`` says what there is.
"""

from .duplicates import Duplicate, DuplicateGroup
from .overview import MapPoint, Overview
from .photo_index import Index
from .query import Like, Mix
from .status import IndexStatus
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
