"""The folder to begin PYTHONPATH with: see sitecustomize.py."""

# As there, which a test cannot import without being its victim.
MARK = b"this picture kills its decoder"
