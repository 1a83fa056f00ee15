"""The model card of a bundle on the Hub, made of what its manifest says."""

import json
import re

from ..files import printable
from .bundle import Bundle

# Of the Hub's names for licences, those that let anyone use and pass on the weights.
_FREE = {
    "afl-3.0", "apache-2.0", "artistic-2.0", "bsd", "bsd-2-clause", "bsd-3-clause",
    "bsd-3-clause-clear", "bsl-1.0", "cc0-1.0", "cc-by-2.0", "cc-by-3.0", "cc-by-4.0",
    "cdla-permissive-1.0", "cdla-permissive-2.0", "isc", "mit", "ncsa", "pddl", "postgresql",
    "unlicense", "wtfpl", "zlib",
}  # fmt: skip
_REPOSITORY = re.compile(r"[\w.-]+/[\w.-]+", re.ASCII)
_TASKS = {
    ("vision", "text"): "zero-shot-image-classification",
    ("vision",): "image-feature-extraction",
    ("text",): "feature-extraction",
}


def model_card(bundle: Bundle, repo: str) -> str:
    """Its README.md, with the front matter that the Hub reads.

    Args:
        bundle: What is pushed.
        repo: ``owner/name``, for the commands that load it.
    """
    source = bundle.source
    identifier = _identifier(source.license)
    link = f"https://huggingface.co/{source.checkpoint}"
    front = {
        "license": identifier,
        "license_name": source.license if identifier == "other" else None,
        "license_link": link if identifier == "other" and _is_on_the_hub(bundle) else None,
        "library_name": "bareclip",
        "pipeline_tag": _TASKS[bundle.towers],
        "base_model": source.checkpoint if _is_on_the_hub(bundle) else None,
        "tags": ["bareclip", "onnx", "siglip" if bundle.scoring.function == "sigmoid" else "clip"],
    }
    # JSON is YAML, and a name that a checkpoint gives itself cannot end the line.
    lines = [f"{key}: {json.dumps(value)}" for key, value in front.items() if value is not None]
    return "\n".join(["---", *lines, "---", "", *_body(bundle, repo)]) + "\n"


def _body(bundle: Bundle, repo: str) -> list[str]:
    source, name = bundle.source, _plain(bundle.name)
    image, text = bundle.image, bundle.text
    takes = [
        f"pictures of {image.size}x{image.size}" if image else "no pictures",
        f"texts of up to {text.context_length} tokens" if text else "no texts",
    ]
    revision = f" at `{_plain(source.revision)}`" if source.revision else ""
    return [
        f"# {name}",
        "",
        f"`{_plain(source.checkpoint)}`{revision} ({_plain(source.architecture)}) for "
        "bareclip: CLIP without PyTorch, on ONNX Runtime, NumPy and Pillow. It takes "
        f"{takes[0]} and {takes[1]}; vectors have {bundle.embedding_dim} numbers. Made by "
        f"{_plain(source.exporter)}.",
        "",
        "## Use",
        "",
        "```python",
        "import bareclip",
        "",
        f'clip = bareclip.load("{repo}")',
        *_calls(bundle, repo),
        "```",
        "",
        "## What is in it",
        "",
        "| precision | tower | numbers | MB | checked against | found |",
        "|---|---|---|--:|---|---|",
        *_rows(bundle),
        "",
        "Each tower was compared when it was made. On your machine and photos, "
        f"`bareclip verify {repo} photos/` checks the files, and compares other precisions with "
        "fp32.",
        *_judged(bundle),
        "",
        "## Licence",
        "",
        _licence(bundle),
    ]


def _calls(bundle: Bundle, repo: str) -> list[str]:
    calls = {
        ("vision", "text"): 'clip.classify("photo.jpg", ["a cat", "a dog"])',
        ("vision",): 'clip.embed_images(["photo.jpg"])',
        ("text",): 'clip.embed_texts(["a cat"])',
    }
    smaller = [name for name in ("int8", "int4") if {name, "fp32"} <= set(bundle.precisions)]
    hints = [f'# smaller: bareclip.load("{repo}", precision="{name}")' for name in smaller[:1]]
    return [calls[bundle.towers], *hints]


def _rows(bundle: Bundle) -> list[str]:
    rows = []
    for precision, towers in bundle.precisions.items():
        for name, tower in towers.items():
            against, found = "nothing", "-"
            fidelity = bundle.fidelity.get(precision)
            if (parity := tower.parity) is not None:
                against = parity.reference
                found = f"largest difference {parity.max_difference:.1e}"
            elif fidelity is not None and (measured := fidelity.towers.get(name)) is not None:
                against = "fp32"
                found = (
                    f"cosine {measured.mean_cosine:.5f}, least {measured.min_cosine:.5f}"
                    f"{', kept by force' if fidelity.forced else ''}"
                )
            size = f"{bundle.size(precision, name) / 1e6:.1f}"
            cells = (precision, name, tower.recipe, size, against, found)
            rows.append(f"| {' | '.join(map(_plain, cells))} |")
    return rows


def _judged(bundle: Bundle) -> list[str]:
    """What each precision's report says beyond its towers."""
    lines = []
    for precision, report in bundle.fidelity.items():
        line = f"- {_plain(precision)} was judged on {_plain(report.data)}"
        if report.top1_agreement is not None:
            line += f"; nearest text as at fp32 for {report.top1_agreement:.1%} of the pictures"
        if report.recall1_change is not None:
            line += f"; recall@1 changed by {report.recall1_change:+.1f} points"
        lines.append(line)
    return ["", *lines] if lines else []


def _licence(bundle: Bundle) -> str:
    source = bundle.source
    licence, where = source.license, f"`{_plain(source.checkpoint)}`"
    if licence is None:
        return (
            f"The checkpoint, {where}, states no licence, and without one nobody may use or pass "
            "on its weights: ask whoever published it."
        )
    # Of two bundles that were paired, both.
    if _FREE.issuperset(licence.lower().split(" and ")):
        return f"The weights keep the licence of {where}: {_plain(licence)}."
    return (
        f"**Restricted.** The weights keep the licence of {where}: {_plain(licence)}. It limits "
        "what they may be used for, or how they may be passed on: read it there first."
    )


def _identifier(licence: str | None) -> str | None:
    """As the Hub wants it; what is no identifier is ``other``."""
    if licence is None:
        return None
    return licence.lower() if re.fullmatch(r"[\w.-]+", licence, re.ASCII) else "other"


def _is_on_the_hub(bundle: Bundle) -> bool:
    source = bundle.source
    return source.revision is not None and _REPOSITORY.fullmatch(source.checkpoint) is not None


def _plain(text: str) -> str:
    """In one line, without what Markdown or HTML would take for its own."""
    return re.sub(r"[|<>`\[\]]", " ", printable(" ".join(text.split())))
