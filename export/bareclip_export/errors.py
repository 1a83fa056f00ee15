"""What can go wrong at export; the base class is the runtime's."""

from bareclip.errors import BareclipError


class CheckpointError(BareclipError):
    """A checkpoint is missing, incomplete, or of a kind we do not author."""


class ParityError(BareclipError):
    """An exported tower does not answer as its checkpoint does."""


class PrecisionError(BareclipError):
    """A precision cannot be made as asked, or is not near enough to fp32 to be kept."""


class DiskFullError(BareclipError):
    """A bundle, or a precision of it, needs more space than there is."""
