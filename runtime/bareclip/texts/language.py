"""Which language a text is said to be in, for models whose texts begin with its token, as NLLB's.

``tokenizer.json`` has a token for each language, such as ``kor_Hang``, and begins texts with one of
them, which is its checkpoint's default (FLORES-200's codes: NLLB Team 2022).
"""

import difflib
import re

import tokenizers
from tokenizers.processors import TemplateProcessing

from ..errors import TextError, short

_CODE = re.compile("[a-z]{3}_[A-Z][a-z]{3}")


def languages(tokenizer: tokenizers.Tokenizer) -> list[str]:
    """Those that texts may be said to be in; the default first, none where texts begin otherwise.

    Args:
        tokenizer: A bundle's.
    """
    first: str = tokenizer.encode("").tokens[0]
    if not _CODE.fullmatch(first):
        return []
    added = tokenizer.get_added_tokens_decoder().values()
    codes = {token.content for token in added if _CODE.fullmatch(token.content)}
    return [first, *sorted(codes - {first})]


def set_language(tokenizer: tokenizers.Tokenizer, language: str) -> None:
    """Begins texts with the token of a language.

    Args:
        tokenizer: A bundle's.
        language: Of ``languages(tokenizer)``.

    Raises:
        TextError: It is none of them.
    """
    known = languages(tokenizer)
    if not known:
        raise TextError(
            f"language is {short(language)}, but this model's texts begin with no language's "
            "token: leave language out"
        )
    if language not in known:
        near = difflib.get_close_matches(str(language), known, 4, 0.3) or known[:4]
        raise TextError(
            f"language {short(language)} is none of the {len(known)} that this model knows; they "
            f"are named by language and script, nearest are {', '.join(near)}"
        )
    _, *rest = tokenizer.encode("").tokens
    numbers = [(token, tokenizer.token_to_id(token)) for token in (language, *rest)]
    tokenizer.post_processor = TemplateProcessing(
        single=[language, "$A", *rest], special_tokens=numbers
    )
