import sys
import warnings
from collections.abc import Iterator

import pytest

from bareclip.texts import clean_up
from bareclip.texts.clean_up import clean


@pytest.fixture(autouse=True)
def _forget() -> Iterator[None]:
    clean_up._ftfy.cache_clear()
    yield
    clean_up._ftfy.cache_clear()


@pytest.mark.parametrize(
    ("step", "given", "wanted"),
    [
        ("unescape_html", "&amp;lt;b&gt; &amp; &nbsp;é", "<b> & \xa0é"),
        ("underscores_to_spaces", "a_b__c", "a b  c"),
        ("remove_punctuation", "it's (a) {}-test_case: “x”, ok?!", "its a testcase “x” ok"),
        ("lowercase", "ÀÇ İ ΑΣ Straße", "àç i̇ ας straße"),
        ("collapse_whitespace", " \t a\n\n b\x1c\u3000c ", "a b c"),
        ("sep_to_pad", "a[SEP][[SEP]] [sep] [PAD]", "a[PAD][[PAD]] [sep] [PAD]"),
    ],
)
def test_each_step(step: clean_up.CleanUp, given: str, wanted: str) -> None:
    assert clean(given, [step]) == wanted


def test_steps_are_done_in_the_order_given() -> None:
    assert clean("&LT;B&GT;", ["unescape_html", "lowercase"]) == "<b>"
    assert clean("A_B", ["remove_punctuation", "underscores_to_spaces"]) == "AB"
    assert clean("A_B", ["underscores_to_spaces", "remove_punctuation"]) == "A B"
    assert clean("  As It Is ", []) == "  As It Is "


def test_without_ftfy_texts_stay_as_they_are_and_that_is_said_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "ftfy", None)
    with pytest.warns(UserWarning, match=r"pip install 'bareclip\[ftfy\]'"):
        assert clean("“x”", ["fix_text"]) == "“x”"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert clean("“y”", ["fix_text", "lowercase"]) == "“y”"


def test_with_ftfy_texts_are_repaired() -> None:
    pytest.importorskip("ftfy")
    assert clean("cafÃ© “quoted” ｆｕｌｌ", ["fix_text"]) == 'café "quoted" full'
