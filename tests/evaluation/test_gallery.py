"""What the gallery shows of an item: who was right, what changed, which words differ, and which items are chosen."""

import json
from collections import Counter

import numpy as np
import pytest
from evaluated import Captions, captions, evaluated, labels
from PIL import Image

from compalign.data.images import ImageCrop
from compalign.evaluation import ChoiceItem, Retrieval, SvoProbes, Winoground
from compalign.evaluation.gallery.galleries import gallery_of, why_left_out
from compalign.evaluation.gallery.items import CHANGES, change, outcomes, verdict
from compalign.evaluation.gallery.readers import option_marks
from compalign.evaluation.gallery.selection import choose
from compalign.evaluation.gallery.thumbnails import DRAWN, LONGEST, Thumbnails, thumbnail
from compalign.evaluation.gallery.words import marked

RIGHT, WRONG, TIE = [2, 1], [1, 2], [1, 1]


def test_equal_scores_are_a_tie_and_no_win():
    assert [verdict(2, 1), verdict(1, 2), verdict(1, 1)] == ["right", "wrong", "tie"]


@pytest.mark.parametrize(
    ("first", "other", "expected"),
    [
        ("wrong", "right", "fixed"),
        ("tie", "right", "fixed"),
        ("right", "wrong", "broken"),
        ("right", "tie", "broken"),
        ("right", "right", "both right"),
        ("wrong", "wrong", "still wrong"),
        ("tie", "tie", "still wrong"),
        ("wrong", "tie", "still wrong"),
    ],
)
def test_a_change_is_fixed_or_broken_where_one_model_is_right(first, other, expected):
    assert change(first, other) == expected
    assert expected in CHANGES


def test_a_single_model_has_verdicts_and_several_have_changes_from_the_first():
    assert outcomes(["tie"]) == ["tie"]
    assert outcomes(["wrong", "right", "wrong"]) == ["fixed", "still wrong"]


def test_marks_name_the_chosen_options_and_ties():
    assert option_marks([3, 1, 2], 1) == ["right", None, None]
    assert option_marks([1, 3, 2], 1) == [None, "wrong", None]
    assert option_marks([3, 1, 3], 1) == ["tie", None, "tie"]
    # Two true captions: each is right alone, and the false one is wrong where it beats the other.
    assert option_marks([3, 1, 2], 2) == ["right", None, "wrong"]
    assert option_marks([3, 2, 2], 2) == ["right", "tie", "tie"]
    assert option_marks([3, 2, 1], 2) == ["right", "right", None]


def words(texts, true=(True, False)):
    """The marked words of each text; the pieces together are the text."""
    pieces = marked(texts, true)
    assert ["".join(text for text, _ in own) for own in pieces] == list(texts)
    return [[text for text, differs in own if differs] for own in pieces]


def test_words_that_differ_are_marked_on_both_sides():
    assert words(["A red cup.", "a blue cup."]) == [["red"], ["blue"]]
    assert words(["a cup", "a big old cup"]) == [[], ["big old"]]
    assert words(["a cup on a book", "a book on a cup"]) == [["cup", "book"], ["book", "cup"]]
    assert words(["same", "Same."]) == [[], []]
    assert words(["on it", "under it", "behind it"], (True, False, False)) == [["on"], ["under"], ["behind"]]
    assert words(["a bus", "one bus", "a car"], (True, True, False)) == [["bus"], ["one bus"], ["car"]]
    assert words(["only true"], (True,)) == [[]]


def test_every_outcome_of_every_kind_is_shown_before_a_frequent_one_twice():
    kinds = ["a"] * 100 + ["b"] * 100
    found = ["rare" if k % 100 < 2 else "often" for k in range(200)]
    names = [str(k) for k in range(200)]
    chosen = choose(kinds, found, names, 8)
    assert Counter((kinds[k], found[k]) for k in chosen) == {
        (kind, outcome): 2 for kind in "ab" for outcome in ("rare", "often")
    }
    assert chosen == choose(kinds, found, names, 8)
    assert sorted(choose(kinds, found, names, 1000)) == list(range(200))
    assert choose(kinds, found, names, 0) == choose([], [], [], 5) == []


def test_the_choice_does_not_depend_on_the_order_of_items():
    names, found = [str(k) for k in range(50)], ["often"] * 50
    there = [names[k] for k in choose(["a"] * 50, found, names, 10)]
    backwards = names[::-1]
    assert [backwards[k] for k in choose(["a"] * 50, found, backwards, 10)] == there


def test_counts_are_of_all_items_and_not_of_the_shown_ones():
    benchmark = captions(30)
    first = evaluated("first", [(benchmark, [RIGHT, WRONG, TIE] * 10)])
    other = evaluated("other", [(benchmark, [RIGHT, RIGHT, WRONG] * 10)])
    gallery = gallery_of(benchmark, [first, other], count=6)
    assert (gallery.total, len(gallery.items)) == (30, 6)
    assert gallery.counts == [Counter({("add", "both right"): 10, ("swap", "fixed"): 10, ("swap", "still wrong"): 10})]
    assert {item.verdicts[0] for item in gallery.items} == {"right", "wrong", "tie"}
    alone = gallery_of(benchmark, [first], count=100)
    assert alone.counts == [Counter({("add", "right"): 10, ("swap", "wrong"): 10, ("swap", "tie"): 10})]
    assert alone.outcomes == ("right", "wrong", "tie")


def test_verdicts_agree_with_the_scores_of_the_table():
    generator = np.random.default_rng(0)
    benchmark, zero_shot = captions(60), labels(40)
    scores = [(benchmark, generator.integers(0, 3, (60, 2))), (zero_shot, generator.integers(0, 3, (1, 2, 40)))]
    results = evaluated("model", scores)
    for each, key in ((benchmark, "all_micro"), (zero_shot, "top1")):
        (counts,) = gallery_of(each, [results], count=1).counts
        right = sum(count for (_, outcome), count in counts.items() if outcome == "right")
        assert right / each.n_found == results.benchmarks[each.name].scores[key].value


def test_a_tie_of_classes_is_a_tie_and_a_wrong_class_is_named():
    benchmark = labels(3)
    scores = np.array([[2, 1, 1], [1, 2, 1]])[None]  # classes, images: right, right, a tie
    right = evaluated("right", [(benchmark, scores)])
    wrong = evaluated("wrong", [(benchmark, scores[:, ::-1])])
    items = {item.name: item for item in gallery_of(benchmark, [right, wrong], count=9).items}
    assert [items[name].verdicts for name in "012"] == [["right", "wrong"], ["right", "wrong"], ["tie", "tie"]]
    own, chosen = items["0"].panels[0].options
    assert (own.text, own.true, chosen.text, chosen.true) == ("cat", True, "dog", False)
    assert [own.answers[0].mark, own.answers[1].mark] == ["right", None]
    assert chosen.answers[0] is None
    assert (chosen.answers[1].mark, chosen.answers[1].score) == ("wrong", 2)


@pytest.fixture
def winoground(tmp_path):
    (tmp_path / "images").mkdir()
    rows = []
    for k in range(3):
        names = {f"image_{side}": f"{k}{side}.png" for side in (0, 1)}
        for name in names.values():
            Image.new("RGB", (8, 8)).save(tmp_path / "images" / name)
        rows.append(
            {"id": k, **names, "caption_0": "cup on book", "caption_1": "book on cup", "collapsed_tag": "Object"}
        )
    (tmp_path / "examples.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return Winoground(tmp_path)


def test_winoground_shows_both_images_and_is_right_only_as_a_group(winoground):
    scores = [[[3, 1], [1, 3]], [[3, 2], [1, 2]], [[3, 1], [3.5, 4]]]  # [caption][image]
    results = evaluated("model", [(winoground, scores)])
    items = {item.name: item for item in gallery_of(winoground, [results], count=9).items}
    assert [items[name].verdicts[0] for name in "012"] == ["right", "tie", "wrong"]
    assert items["2"].details == ["text not right, image right"]
    first, second = items["2"].panels
    assert [option.text for option in first.options] == ["cup on book", "book on cup"]
    assert [option.text for option in second.options] == ["book on cup", "cup on book"]
    assert [option.answers[0].mark for option in first.options] == [None, "wrong"]
    assert [option.answers[0].score for option in second.options] == [4, 1]
    assert results.benchmarks["winoground"].rows[0]["images"] == ["00.png", "01.png"]


def test_svo_probes_choose_between_images(tmp_path):
    for name in "1234":
        Image.new("RGB", (8, 8)).save(tmp_path / f"{name}.jpg")
    table = "sentence,pos_image_id,neg_image_id,subj_neg,verb_neg,obj_neg\n"
    (tmp_path / "svo.csv").write_text(table + "a man sits,1,2,True,False,False\na dog runs,3,4,False,True,False\n")
    benchmark = SvoProbes(tmp_path / "svo.csv", tmp_path)
    results = evaluated("model", [(benchmark, [[[2, 1]], [[1, 1]]])])
    items = {item.question: item for item in gallery_of(benchmark, [results], count=9).items}
    assert {question: item.verdicts[0] for question, item in items.items()} == {
        "a man sits": "right",
        "a dog runs": "tie",
    }
    (panel,) = items["a man sits"].panels
    assert [option.image.name for option in panel.options] == ["1.jpg", "2.jpg"]
    assert results.benchmarks["svo_probes"].rows[1]["images"] == ["3.jpg", "4.jpg"]


class Ranking(Retrieval):
    name, suite, columns = "ranking", "Ranking", {"text_to_image_recall_1": "R@1"}


def test_what_has_no_single_choices_or_no_rows_is_left_out_with_a_reason():
    ranking, choice, other = Ranking([b"0", b"1"], ["x", "y"], [0, 1], ks=(1,)), captions(2), labels(2)
    results = evaluated("model", [(ranking, np.eye(2)[None]), (choice, [RIGHT, WRONG]), (other, np.eye(2)[None])])
    results.benchmarks["captions"].rows = []
    assert gallery_of(ranking, [results], count=9) is None
    assert gallery_of(choice, [results], count=9) is None
    assert why_left_out([results], [ranking, choice]) == {
        "ranking": "it ranks all captions and all images, so its items are not single choices",
        "captions": "the results have no scores of single items",
        "zero_shot": "its images were not given to the report",
    }


def test_rows_of_other_items_are_refused():
    results = evaluated("model", [(captions(3), [RIGHT] * 3)])
    for other in (captions(4), captions(3, texts=("one", "another"))):
        with pytest.raises(ValueError, match="captions: the 3 rows of model do not belong to the"):
            gallery_of(other, [results], count=9)


def test_a_model_that_was_not_evaluated_on_a_benchmark_has_no_place_in_its_gallery():
    benchmark = captions(2)
    results = [evaluated("elsewhere", [(labels(2), np.eye(2)[None])])]
    results += [evaluated(name, [(benchmark, [RIGHT, WRONG])]) for name in ("one", "two")]
    gallery = gallery_of(benchmark, results, count=9)
    assert (gallery.models, gallery.compared) == ([1, 2], [2])


def test_rows_name_the_file_of_their_image_where_there_is_one(tmp_path):
    crop = ImageCrop(tmp_path / "folder" / "whole.jpg", (0, 0, 1, 1))
    images = ["a/photo.jpg", {"bytes": b"", "path": "b.png"}, crop, Image.new("RGB", (8, 8)), b"bytes"]
    items = [ChoiceItem(str(k), "swap", image, ("x", "y"), str(k)) for k, image in enumerate(images)]
    results = evaluated("model", [(Captions(items), [RIGHT] * 5)])
    results.rows_to_jsonl(tmp_path / "rows.jsonl")
    rows = [json.loads(line) for line in (tmp_path / "rows.jsonl").read_text().splitlines()]
    assert [row["image"] for row in rows] == ["photo.jpg", "b.png", "whole.jpg", None, None]


def test_small_images_keep_their_pixels_and_large_ones_are_made_small(tmp_path):
    scene = thumbnail(Image.new("RGB", (DRAWN, 64), "red"))
    assert (scene.width, scene.height, scene.drawn) == (DRAWN, 64, True)
    assert scene.address.startswith("data:image/png;base64,")
    photo = tmp_path / "photo.jpg"
    Image.effect_noise((2000, 1000), 60).save(photo)
    made = thumbnail(photo)
    assert (made.width, made.height, made.drawn, made.file) == (LONGEST, LONGEST // 2, False, "photo.jpg")
    assert len(made.address) < 60_000


def test_a_photograph_is_turned_upright(tmp_path):
    exif = Image.Exif()
    exif[274] = 6
    Image.new("RGB", (600, 300)).save(tmp_path / "turned.jpg", exif=exif)
    made = thumbnail(tmp_path / "turned.jpg")
    assert (made.width, made.height) == (LONGEST // 2, LONGEST)


def test_an_image_that_cannot_be_read_says_so_without_its_folder(tmp_path):
    (tmp_path / "broken.jpg").write_bytes(b"nothing")
    Image.new("1", (20_000, 7_000)).save(tmp_path / "huge.png")
    for name, cause in (("broken.jpg", "not an image"), ("huge.png", "more than"), ("gone.jpg", "no such file")):
        made = thumbnail(tmp_path / name)
        assert made.address == ""
        assert cause in made.error
        assert made.error.startswith(f"{name}: ")


def test_an_image_that_several_items_share_is_carried_once(tmp_path):
    Image.new("RGB", (8, 8)).save(tmp_path / "one.png")
    scene = Image.new("RGB", (8, 8))
    thumbnails = Thumbnails()
    sources = [tmp_path / "one.png", str(tmp_path / "one.png"), scene, scene, ImageCrop(scene, (0, 0, 4, 4))]
    assert [thumbnails.place(source) for source in sources] == [0, 0, 1, 1, 2]
    assert len(thumbnails.made) == 3
