"""Every error bareclip raises on purpose. Catch ``BareclipError`` to catch them all."""


class BareclipError(Exception):
    """One line: what was wrong, what was given, what would be right, the next command."""


class BundleError(BareclipError):
    """A bundle is missing, damaged, or newer than this version can read."""


class ImageError(BareclipError):
    """An image could not be read; the message names it."""


class TextError(BareclipError):
    """A text or a prompt template cannot be used as given."""


class VectorError(BareclipError, ValueError):
    """Vectors, scores or a count of them that cannot be used."""


class ClassifierError(BareclipError):
    """A classifier's file is damaged or of another model; or examples that teach nothing."""


class StoreError(BareclipError):
    """A photo index's file is missing, damaged, in use, or of another model."""


class ShardError(BareclipError):
    """A run over shards, or a source of one, cannot be used as it is."""


class DeviceError(BareclipError):
    """ONNX Runtime, or the device asked for, is not there."""


def short(given: object) -> str:
    """What was given, as messages quote it."""
    if isinstance(given, str):
        return repr(given if len(given) <= 40 else given[:37] + "...")
    shown = repr(given)
    return shown if len(shown) <= 40 else shown[:37] + "..."
