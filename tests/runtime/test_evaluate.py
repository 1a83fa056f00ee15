"""Zero-shot accuracy and recall, against plain loops over the same vectors."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import bareclip
from bareclip.measure.accuracy import Setting, retrieval, zero_shot
from bareclip.scoring.vectors import ranks
from bareclip.texts.prompts import FIVE, PLAIN
from tests.runtime.test_cli import complaint, run
from tests.variants import picture

CLASSES = ["cat", "dog", "red_circle", "bird", "fish", "ocean", "two three"]


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    for index, name in enumerate(CLASSES):
        (tmp_path / "tree" / name / "deeper").mkdir(parents=True)
        for i in range(3):
            place = tmp_path / "tree" / name / ("deeper" if i == 2 else ".")
            picture(20 + 3 * i, 30, seed=index * 3 + i).save(place / f"{i}.png")
    return tmp_path / "tree"


@pytest.fixture
def pairs(tmp_path: Path) -> Path:
    lines = []
    for i in range(12):
        picture(25 + i, 30, seed=i).save(tmp_path / f"{i}.png")
        captions = [f"{i} a cat", f"a dog {i}"][: 1 + i % 2]
        lines.append(json.dumps({"image": f"{i}.png", "captions": captions}))
    path = tmp_path / "pairs.jsonl"
    path.write_text("\n".join([*lines, "", ""]))
    return path


def test_top1_and_top5_equal_a_plain_count(clip: bareclip.Clip, tree: Path) -> None:
    settings = [
        Setting("plain", PLAIN, "embedding"),
        Setting("five", FIVE, "embedding"),
        Setting("five", FIVE, "probability"),
    ]
    report = zero_shot(clip, tree, settings)
    assert (report.images, report.classes, report.failures) == (21, 7, [])
    labels = sorted(name.replace("_", " ") for name in CLASSES)
    assert sorted(CLASSES) == [label.replace("red circle", "red_circle") for label in labels]
    for setting, result in zip(settings, report.results, strict=True):
        first = five = 0
        for label in labels:
            for path in sorted((tree / label.replace("red circle", "red_circle")).rglob("*.png")):
                [predictions] = clip.classify(
                    path, labels, templates=setting.templates, ensemble=setting.ensemble
                )
                found = [p.label for p in predictions]
                first += found[0] == label
                five += label in found[:5]
        assert (result.top1, result.top5) == pytest.approx((first / 21, five / 21))
        assert result.setting is setting


def test_recall_equals_a_full_sort(clip: bareclip.Clip, pairs: Path) -> None:
    report = retrieval(clip, pairs)
    lines = [json.loads(line) for line in pairs.read_text().splitlines() if line]
    images = clip.embed_images([pairs.parent / line["image"] for line in lines]).astype(float)
    texts = [(text, row) for row, line in enumerate(lines) for text in line["captions"]]
    vectors = clip.embed_texts([text for text, _ in texts]).astype(float)
    scores = images @ vectors.T
    assert (report.images, report.captions) == (12, 18)
    for k in (1, 5, 10):
        by_image = [
            any(texts[i][1] == row for i in np.argsort(-scores[row], kind="stable")[:k])
            for row in range(12)
        ]
        by_text = [texts[i][1] in np.argsort(-scores[:, i], kind="stable")[:k] for i in range(18)]
        assert report.image_to_text[k] == pytest.approx(np.mean(by_image))
        assert report.text_to_image[k] == pytest.approx(np.mean(by_text))


def test_a_caption_a_line_is_the_same_as_all_in_one(clip: bareclip.Clip, pairs: Path) -> None:
    lines = [json.loads(line) for line in pairs.read_text().splitlines() if line]
    apart = [
        json.dumps({"image": name, "captions": [text]})
        for line in lines
        for name, text in zip((line["image"], f"./{line['image']}"), line["captions"], strict=False)
    ]
    (pairs.parent / "apart.jsonl").write_text("\n".join(sorted(apart)))
    together, found = retrieval(clip, pairs), retrieval(clip, pairs.parent / "apart.jsonl")
    assert (found.images, found.captions) == (12, 18)
    assert found.image_to_text == together.image_to_text
    assert found.text_to_image == together.text_to_image


def test_ranks_with_ties_go_to_the_earlier_column() -> None:
    scores = np.array([[0.5, 0.9, 0.5, 0.5]] * 4)
    assert ranks(scores, np.arange(4)).tolist() == [1, 0, 2, 3]


def test_unreadable_images_are_left_out_and_named(clip: bareclip.Clip, pairs: Path) -> None:
    (pairs.parent / "3.png").write_bytes(b"x")
    report = retrieval(clip, pairs)
    assert (report.images, report.captions) == (11, 16)
    assert [Path(f.name).name for f in report.failures] == ["3.png"]


def test_nothing_readable_is_an_error_not_a_nan(clip: bareclip.Clip, tree: Path) -> None:
    for path in tree.rglob("*.png"):
        path.write_bytes(b"x")
    with pytest.raises(
        bareclip.BareclipError, match="none of the 21 images can be read; the first"
    ):
        zero_shot(clip, tree, [Setting("plain", PLAIN, "embedding")])
    (tree / "pairs.jsonl").write_text('{"image": "no.png", "captions": ["x"]}')
    with pytest.raises(bareclip.BareclipError, match="none of the 1 images can be read"):
        retrieval(clip, tree / "pairs.jsonl")


def test_hidden_folders_are_no_classes_and_clashing_ones_cost_no_time(
    clip: bareclip.Clip, tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tree / ".cache").mkdir()
    assert zero_shot(clip, tree, [Setting("plain", PLAIN, "embedding")]).classes == 7
    (tree / "red circle").mkdir()
    monkeypatch.setattr(clip, "embed_images", lambda *_, **__: pytest.fail("embedded already"))
    with pytest.raises(bareclip.BareclipError, match="two folders of .* have one name"):
        zero_shot(clip, tree, [Setting("plain", PLAIN, "embedding")])


def test_captions_may_hold_any_separator(clip: bareclip.Clip, pairs: Path) -> None:
    line = json.dumps({"image": "1.png", "captions": ["a\u2028b\u0085c"]}, ensure_ascii=False)
    pairs.write_text(f"\ufeff{line}\r\n", encoding="utf-8")
    assert retrieval(clip, pairs).captions == 1


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"image": "a.jpg"}', "line 1 of .* is not"),
        ('\n{"image": "a.jpg", "captions": "one"}', "line 2 of"),
        ('{"image": "a.jpg", "captions": []}', "line 1 of"),
        ("not json", "line 1 of"),
        ("[" * 100_000, "line 1 of"),
        ("\n", "holds no images with captions"),
    ],
)
def test_pairs_that_cannot_be_read(
    clip: bareclip.Clip, tmp_path: Path, text: str, message: str
) -> None:
    (tmp_path / "pairs.jsonl").write_text(text)
    with pytest.raises(bareclip.BareclipError, match=message):
        retrieval(clip, tmp_path / "pairs.jsonl")


def test_the_command_prints_settings_side_by_side(
    bundles: dict[str, Path], tree: Path, pairs: Path
) -> None:
    bundle = bundles["tiny"]
    table = run("evaluate", bundle, tree).stdout.splitlines()
    assert table[0] == "21 images of 7 classes"
    assert [line.split()[:2] for line in table[3:]] == [
        ["plain", "embedding"],
        ["five", "embedding"],
        ["five", "probability"],
    ]
    found = json.loads(run("evaluate", bundle, tree, "--templates", "five", "--json").stdout)
    report = zero_shot(bareclip.load(bundle), tree, [Setting("five", FIVE, "embedding")])
    assert found["results"][0]["top1"] == pytest.approx(report.results[0].top1)
    lines = run("evaluate", bundle, pairs).stdout.splitlines()
    assert lines[0] == "12 images, 18 captions"
    recall: dict[str, Any] = json.loads(run("evaluate", bundle, pairs, "--json").stdout)
    assert recall["image_to_text"]["10"] == pytest.approx(
        retrieval(bareclip.load(bundle), pairs).image_to_text[10]
    )


def test_what_cannot_be_evaluated_is_one_line(bundles: dict[str, Path], tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert "does not hold one folder of images per class" in complaint(
        "evaluate", bundles["tiny"], tmp_path / "empty"
    )
    assert "cannot read" in complaint("evaluate", bundles["tiny"], tmp_path / "none.jsonl")
