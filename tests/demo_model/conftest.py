"""These tests import the training code, which needs PyTorch; without it there are none."""

from importlib.util import find_spec

collect_ignore_glob = [] if find_spec("torch") else ["test_*.py"]
