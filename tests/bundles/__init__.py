"""Bundles of the seeded checkpoints, as exported: runtime tests need no exporter.

``precise`` has every precision of ``tiny``. tests/export/test_bundles.py holds them to what the
exporter makes today; ``python -m tests.bundles.make_bundles`` makes them again.
"""
