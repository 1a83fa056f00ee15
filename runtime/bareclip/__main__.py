"""``python -m bareclip``."""

from .cli.main import main

main()
