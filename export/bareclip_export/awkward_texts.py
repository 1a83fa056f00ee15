"""Texts that readings of one tokenizer have been seen to disagree on."""
# ruff: noqa: RUF001 (odd letters are what they are for)

from bareclip.measure.samples import AWKWARD_TEXTS

TEXTS = (
    *AWKWARD_TEXTS,
    # Letters of other scripts, upper case, a sigma that ends a word.
    "Zürich, Málaga & København", "ΟΔΥΣΣΕΥΣ ΣΟΦΟΣ", "Σ", "Москва Київ", "İstanbul, Iğdır",
    "STRASSE straße ẞ", "京都", "北海道", "東京タワー", "がぎぐ", "서울", "ภาษาไทย", "हिन्दी में",
    # Letters in parts, and marks that are not in order.
    "naïve cafe\N{COMBINING ACUTE ACCENT}s", "か\u3099き\u3099", "\u1109\u1165\u110b\u116e\u11af",
    "شَدّة \u0634\u0651\u064e", "שָׁלוֹם \u05e9\u05c1\u05b8", "o\u0301\u031b",
    # Emoji, and letters that are others in another width.
    "🐱", "👩‍👩‍👧 🏳️‍🌈", "ｆｕｌｌ－ｗｉｄｔｈ １２３", "ﾀﾞ～ ①½ﬁ™…",
    # Punctuation, digits, spaces, markup.
    "it's DON'T we'll they've I'm he'd", "e-mail: x_y@z.org #tag 50%", "!?", "- a",
    "9 99 1234567890", "  two  spaces\tand\na line\u00a0\u3000", "\u200bzero\u200b width\ufeff",
    "&amp;lt;b&gt;", "▁a▁▁b",
    # Names of special tokens.
    "a </s> b</s>", "</s>cat", "<unk>!dog", "＜/s＞ ＜0x41＞ <0x41>", "<|EndOfText|>",
    "<|startoftext|> a <|endoftext|>", "Hi!<end_of_text>", "a<end_of_text>b <start_of_text>",
    "a [SEP] b[SEP][PAD] [sep]",
)  # fmt: skip
