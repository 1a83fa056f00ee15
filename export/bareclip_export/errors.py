"""What can go wrong at export; the base class is the runtime's."""

from bareclip.errors import BareclipError


class CheckpointError(BareclipError):
    """A checkpoint is missing, incomplete, or of a kind we do not author."""


class ParityError(BareclipError):
    """An exported tower does not answer as its checkpoint does."""
