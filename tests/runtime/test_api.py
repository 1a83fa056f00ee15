import ast
import subprocess
import sys
from pathlib import Path

import bareclip


def test_the_public_api_is_what_all_says() -> None:
    tree = ast.parse(Path(bareclip.__file__).read_text())
    imported = {
        alias.asname or alias.name
        for node in [*tree.body, *(n for i in tree.body if isinstance(i, ast.If) for n in i.body)]
        if isinstance(node, ast.ImportFrom) and node.level
        for alias in node.names
    }
    assert imported | {"__version__"} == set(bareclip.__all__)
    assert bareclip.__all__ == sorted(bareclip.__all__)
    assert all(hasattr(bareclip, name) for name in bareclip.__all__)
    assert not hasattr(bareclip, "Indices")


def test_importing_loads_no_training_library() -> None:
    unwanted = ("torch", "transformers", "onnx", "onnxscript", "bareclip_export", "onnxruntime")
    for modules, others in (("bareclip.cli.main", unwanted), ("bareclip", ("sqlite3", "tqdm"))):
        code = f"import sys, {modules}; print(sorted(set({others!r}) & set(sys.modules)))"
        found = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True
        )
        assert found.stdout.strip() == "[]"
