"""The page is one file that carries all it shows; no text of the data is read as HTML."""

import json
import re

import numpy as np
import pytest
from evaluated import captions, evaluated, labels
from PIL import Image

from compalign.evaluation import table, write_report
from compalign.evaluation.gallery import arrows

RIGHT, WRONG, TIE = [0.2, 0.1], [0.1, 0.2], [0.1, 0.1]
EVIL = "a cup </script><script>alert(1)</script><!-- <b>&amp;"


def page(results, benchmarks, folder, **options) -> str:
    """The text of the page."""
    write_report(results, benchmarks, folder / "index.html", **options)
    return (folder / "index.html").read_text(encoding="utf-8")


def data(text: str) -> dict:
    """What the script of a page reads."""
    (found,) = re.findall(r'<script type="application/json" id="data">(.*?)</script>', text, flags=re.DOTALL)
    return json.loads(found)


@pytest.fixture
def benchmarks():
    return [captions(30), labels(20)]


@pytest.fixture
def models(benchmarks):
    choice, zero_shot = benchmarks
    own = np.array([[k % 2 == row for k in range(20)] for row in range(2)], dtype=float)[None]
    worse = own.copy()
    worse[0, :, :4] = worse[0, ::-1, :4]
    return [
        evaluated("base", [(choice, [RIGHT, WRONG, TIE] * 10), (zero_shot, own)]),
        evaluated("tuned", [(choice, [RIGHT, RIGHT, TIE] * 10), (zero_shot, worse)]),
    ]


def test_the_page_needs_nothing_but_itself(models, benchmarks, tmp_path):
    text = page(models, benchmarks, tmp_path)
    without_data = text.replace(re.search(r'id="data">(.*?)</script>', text, flags=re.DOTALL)[1], "")
    assert re.findall(r"https?://", without_data) == []
    assert re.findall(r"""(?:src|href)=["'](?!#|data:)""", without_data) == []
    assert '<html lang="en">' in text
    assert "default-src 'none'" in text
    assert {image["address"][:10] for image in data(text)["images"]} == {"data:image"}
    assert len(data(text)["images"]) == 50


def test_the_numbers_of_the_table_are_on_the_page(models, benchmarks, tmp_path):
    text = page(models, benchmarks, tmp_path)
    for line in table(models).splitlines():
        if line.startswith("| ") and ":---" not in line:
            for cell in filter(None, (cell.strip() for cell in line.strip("|").split("|"))):
                assert cell in text
    low, high = models[0].benchmarks["captions"].scores["all_macro"].interval
    assert f"{100 * low:.1f}\u2013{100 * high:.1f}" in text
    for fact in ("0123456789ab", "compalign 9.8.7", "2026-01-02 03:04 UTC", "float32", "abacus"):
        assert fact in text


def test_texts_of_the_data_stay_texts(tmp_path):
    choice = captions(3, texts=(EVIL, "a book"))
    text = page([evaluated("<i>m</i>", [(choice, [RIGHT, WRONG, TIE])])], [choice], tmp_path)
    assert text.count("<script") == text.count("</script>") == 2
    assert "<i>m" not in text
    assert "&lt;i&gt;m" in text
    # A suite, a note and a name stand in the page itself; captions only in the data.
    (option, _) = data(text)["benchmarks"][0]["items"][0]["panels"][0]["options"]
    assert "".join(piece for piece, _ in option["pieces"]) == EVIL


def test_a_large_benchmark_is_cut_and_its_counts_are_not(tmp_path):
    choice = captions(600)
    models = [
        evaluated(name, [(choice, scores * 200)]) for name, scores in (("a", [WRONG] * 3), ("b", [RIGHT, TIE, WRONG]))
    ]
    text = page(models, [choice], tmp_path, gallery_items=12)
    (found,) = data(text)["benchmarks"]
    assert (found["total"], len(found["items"])) == (600, 12)
    assert found["counts"] == [[["add", "fixed", 200], ["swap", "still wrong", 400]]]
    assert "600 items" in text
    assert "<b>200</b> fixed" in text
    assert (tmp_path / "index.html").stat().st_size < 100_000


def test_photographs_make_no_heavy_page(tmp_path):
    Image.effect_noise((1500, 1000), 50).convert("RGB").save(tmp_path / "photo.jpg", quality=95)
    choice = captions(9, image=tmp_path / "photo.jpg")
    page([evaluated("a", [(choice, [RIGHT] * 9)])], [choice], tmp_path)
    assert (tmp_path / "index.html").stat().st_size < (tmp_path / "photo.jpg").stat().st_size / 5


def test_different_scores_never_look_equal(tmp_path):
    choice = captions(3)
    results = evaluated("a", [(choice, [[0.12345, 0.12344], [0.2, 0.1], [0.1, 0.1]])])
    shown = {
        item["name"]: [option["answers"][0] for option in item["panels"][0]["options"]]
        for item in data(page([results], [choice], tmp_path))["benchmarks"][0]["items"]
    }
    assert shown == {
        "n0": [["0.1235", "right"], ["0.1234", None]],
        "n1": [["0.200", "right"], ["0.100", None]],
        "n2": [["0.100", "tie"], ["0.100", "tie"]],
    }


def test_the_picture_leads_from_the_first_model_to_the_others(models):
    found = arrows.picture(models)
    (arrow,) = found.arrows
    base, tuned = found.marks
    assert (base.name, tuned.name, arrow.model) == ("base", "tuned", 1)
    assert tuned.point[0] < base.point[0]  # it lost recognition
    assert tuned.point[1] < base.point[1]  # and gained composition: further up
    assert base.interval[0] <= base.point[0] <= base.interval[2]
    assert base.interval[1] <= base.point[1] <= base.interval[3]
    for mark in found.marks:
        assert mark.label_at[0] >= arrows.LEFT
        assert mark.label_at[0] + arrows.LETTER * len(mark.label) <= arrows.RIGHT


def test_labels_of_models_at_the_same_place_do_not_cover_each_other(models):
    crowd = []
    for k in range(6):
        twin = evaluated(f"a model {k}", [])
        twin.benchmarks = models[k % 2].benchmarks
        crowd.append(twin)
    marks = arrows.picture(crowd).marks
    boxes = [(x, y - arrows.LINE, x + arrows.LETTER * len(m.label), y) for m in marks for x, y in [m.label_at]]
    overlaps = [
        (a, b)
        for k, a in enumerate(boxes)
        for b in boxes[:k]
        if a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]
    ]
    assert overlaps == []


@pytest.mark.parametrize(
    ("left", "reason"), [("captions", "none of the benchmarks tests recognition"), ("zero_shot", "tests composition")]
)
def test_without_one_of_the_abilities_the_picture_is_left_out_with_a_reason(models, benchmarks, tmp_path, left, reason):
    for model in models:
        model.benchmarks = {left: model.benchmarks[left]}
    text = page(models, [each for each in benchmarks if each.name == left], tmp_path)
    assert reason in text
    assert 'role="img"' not in text


def test_a_single_model_has_right_and_wrong_items_and_no_arrows(models, benchmarks, tmp_path):
    text = page(models[:1], benchmarks, tmp_path)
    assert "needs both scores of at least two models" in text
    assert "Items right and wrong" in text
    assert data(text)["benchmarks"][0]["outcomes"] == ["right", "wrong", "tie"]
    assert "<b>10</b> tie" in text


def test_an_item_without_a_readable_image_stays_in_the_gallery(tmp_path):
    choice = captions(3, image=tmp_path / "gone.jpg")
    found = data(page([evaluated("a", [(choice, [RIGHT] * 3)])], [choice], tmp_path))
    assert len(found["benchmarks"][0]["items"]) == 3
    assert found["images"][0]["error"] == "gone.jpg: no such file"


def test_what_cannot_be_shown_is_refused(models, benchmarks, tmp_path):
    with pytest.raises(ValueError, match="different names"):
        page([models[0], models[0]], benchmarks, tmp_path)
    with pytest.raises(ValueError, match="gallery_items 0; must be at least 1"):
        page(models, benchmarks, tmp_path, gallery_items=0)
    for model in models:
        del model.benchmarks["zero_shot"]
    with pytest.raises(ValueError, match="no model was evaluated on zero_shot; there are captions"):
        page(models, benchmarks, tmp_path)
    assert not (tmp_path / "index.html").exists()
