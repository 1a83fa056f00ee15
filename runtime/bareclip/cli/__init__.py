"""The ``bareclip`` command: one file per verb."""
