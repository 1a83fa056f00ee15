"""What some models do to a text before their tokenizer sees it, a named step at a time.

The bundle names the steps; none of them is this module's choice. ``fix_text`` needs the
extra ``bareclip[ftfy]``; without it the step is left out, and that is said once.
"""

import html
import string
import warnings
from collections.abc import Callable, Sequence
from functools import cache

from ..bundle import CleanUp

_NO_PUNCTUATION = str.maketrans("", "", string.punctuation)


def clean(text: str, steps: Sequence[CleanUp]) -> str:
    """The text after these steps, one after another."""
    for step in steps:
        text = _STEPS[step](text)
    return text


def _fix_text(text: str) -> str:
    fix = _ftfy()
    return fix(text) if fix else text


@cache
def _ftfy() -> Callable[[str], str] | None:
    """The repair of mojibake, curly quotes, full-width letters; None where it is missing."""
    try:
        from ftfy import fix_text
    except ImportError:
        warnings.warn(
            "this model repairs its texts with ftfy, which is not installed, so texts with "
            "mojibake, curly quotes or full-width letters get other vectors than the model's: "
            "pip install 'bareclip[ftfy]'",
            stacklevel=2,
        )
        return None
    repair: Callable[[str], str] = fix_text
    return repair


_STEPS: dict[CleanUp, Callable[[str], str]] = {
    "fix_text": _fix_text,
    # Twice, as OpenAI and OpenCLIP do: &amp;lt; is a <.
    "unescape_html": lambda text: html.unescape(html.unescape(text)),
    "underscores_to_spaces": lambda text: text.replace("_", " "),
    "remove_punctuation": lambda text: text.translate(_NO_PUNCTUATION),
    "lowercase": str.lower,
    "collapse_whitespace": lambda text: " ".join(text.split()),
    # CLIPA's texts have padding for BERT's separator, also for one that a text names.
    "sep_to_pad": lambda text: text.replace("[SEP]", "[PAD]"),
}
