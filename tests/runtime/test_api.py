import ast
import subprocess
import sys
from pathlib import Path

import bareclip


def test_the_public_api_is_what_all_says() -> None:
    tree = ast.parse(Path(bareclip.__file__).read_text())
    imported = {
        alias.asname or alias.name
        for node in tree.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    assert imported | {"__version__"} == set(bareclip.__all__)
    assert bareclip.__all__ == sorted(bareclip.__all__)


def test_importing_loads_no_training_library() -> None:
    unwanted = ("torch", "transformers", "onnx", "onnxscript", "bareclip_export", "onnxruntime")
    code = (
        "import sys, bareclip, bareclip.cli.main;"
        f"print(sorted(set({unwanted!r}) & set(sys.modules)))"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"
