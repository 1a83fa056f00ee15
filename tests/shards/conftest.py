from tests.runtime.shards.conftest import finished, mixed

__all__ = ["finished", "mixed"]
