"""Texts of all scripts, seeded: what tokenizers disagree on, alone and mixed."""

import random
import unicodedata

# First and last code points of scripts, marks, symbols and emoji.
_RANGES = (
    (0x20, 0x7E), (0xA0, 0x17F), (0x180, 0x24F), (0x2B0, 0x2FF), (0x300, 0x36F), (0x370, 0x3FF),
    (0x400, 0x52F), (0x530, 0x58F), (0x590, 0x5FF), (0x600, 0x6FF), (0x900, 0x97F), (0xE00, 0xE7F),
    (0x10A0, 0x10FF), (0x1100, 0x11FF), (0x13A0, 0x13FF), (0x1E00, 0x1EFF), (0x1F00, 0x1FFF),
    (0x2000, 0x206F), (0x2070, 0x209F), (0x20A0, 0x20CF), (0x2100, 0x218F), (0x2190, 0x23FF),
    (0x2460, 0x24FF), (0x2581, 0x2581), (0x2600, 0x27BF), (0x2C60, 0x2C7F), (0x3000, 0x303F),
    (0x3040, 0x30FF), (0x3200, 0x33FF), (0x4E00, 0x9FFF), (0xAC00, 0xD7A3), (0xFB00, 0xFB4F),
    (0xFE00, 0xFE0F), (0xFF00, 0xFFEF), (0x1D400, 0x1D7FF), (0x1F300, 0x1F64F), (0x1F900, 0x1F9FF),
    (0x20000, 0x2A6DF),
)  # fmt: skip
_WORDS = (
    "a photo of the cat", "Zürich", "naïve café", "ΑΘΗΝΑΣ", "Σ", "ΟΔΥΣΣΕΥΣ ΣΟΦΟΣ", "Москва",
    "京都", "北海道", "東京タワー", "がぎぐげご", "서울", "한국어", "ไทย", "हिन्दी", "العربية",
    "עברית", "İstanbul", "ẞ", "straße", "ﬁ", "①", "Å", "½", "™", "…", "100%", "don't", "it's",
    "#tag @name", "e-mail: x@y.z", "👩‍👩‍👧", "🏳️‍🌈", "🐱", "ｆｕｌｌ－ｗｉｄｔｈ",
    "&amp;", "“curly”",
)  # fmt: skip
_SPACES = (" ", "  ", "\t", "\n", "\u00a0", "\u3000", "\u200b", "")
SPECIAL = (
    "</s>", "<unk>", "<pad>", "<s>", "<0x41>", "＜/s＞", "＜0x41＞", "<|startoftext|>",
    "<|endoftext|>", "<|EndOfText|>", "<start_of_text>", "<end_of_text>", "<END_OF_TEXT>", "<eos>",
    "<bos>", "▁", "▁▁a",
)  # fmt: skip


def awkward_texts(count: int, seed: int = 0) -> list[str]:
    """As many texts: words, letters of one range, decomposed ones, mixtures with odd spaces."""
    rng = random.Random(seed)

    def letters(most: int) -> str:
        first, last = rng.choice(_RANGES)
        made = (chr(rng.randint(first, last)) for _ in range(rng.randint(1, most)))
        # Libraries of other Unicode versions take what is unassigned for other kinds of letters.
        return "".join(letter for letter in made if unicodedata.category(letter) != "Cn")

    def part() -> str:
        made = rng.choice((rng.choice(_WORDS), letters(6), rng.choice(_WORDS)))
        form = rng.choice(("", "", "NFD", "NFKD", "upper", "title"))
        if form in ("upper", "title"):
            return str(getattr(made, form)())
        return unicodedata.normalize(form, made) if form else made

    fixed = [*_WORDS, *(unicodedata.normalize("NFD", word) for word in _WORDS), "", " ", "\n"]
    mixed = [
        "".join(part() + rng.choice(_SPACES) for _ in range(rng.randint(1, 6)))
        for _ in range(max(0, count - len(fixed)))
    ]
    return [*fixed, *mixed][:count]


def with_special_tokens(count: int, seed: int = 1) -> list[str]:
    """Texts that hold special tokens' names, beside letters, punctuation and spaces."""
    rng = random.Random(seed)
    around = ("", " ", "!", "a", "Hi!", " cat ", "é", "9", "  ", "_", ".", "-", "'s", "\u0301")
    return [
        "".join(
            rng.choice(around) + rng.choice(SPECIAL) + rng.choice(around)
            for _ in range(rng.randint(1, 3))
        )
        for _ in range(count)
    ]
