"""The ``bareclip`` command: a file a verb."""
