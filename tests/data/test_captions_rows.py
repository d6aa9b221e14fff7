"""Bad rows are named and counted, then left out or refused; negatives that are none are dropped or masked."""

import json
import logging
from collections import Counter

import pytest
from datasets import Dataset
from datasets import Image as ImageFeature
from PIL import Image

from compalign.data.readers.bad_rows import BadRows, RowProblem, RowReport
from compalign.data.readers.captions import load_captions
from compalign.data.readers.hygiene import clean_negatives, normalised

GOOD = {"image": "good.jpg", "caption": "A dog.", "negative_captions": ["A cat."]}


@pytest.fixture
def folder(tmp_path):
    """A folder with a sound picture, a cut one, one that is text, and a secret beside it."""
    folder = tmp_path / "images"
    folder.mkdir()
    Image.effect_noise((64, 64), 50).save(folder / "good.jpg")
    data = (folder / "good.jpg").read_bytes()
    (folder / "cut.jpg").write_bytes(data[: len(data) // 2])
    (folder / "text.jpg").write_text("<html>404</html>")
    (tmp_path / "secret.jpg").write_bytes(data)
    (folder / "link.jpg").symlink_to(tmp_path / "secret.jpg")
    return folder


def lines(folder, *rows):
    path = folder / "rows.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        ({"image": "absent.jpg"}, "missing image"),
        ({"image": None}, "missing image"),
        ({"image": "cut.jpg"}, "unreadable image"),
        ({"image": "text.jpg"}, "unreadable image"),
        ({"image": "../secret.jpg"}, "image outside its folder"),
        ({"image": "link.jpg"}, "image outside its folder"),
        ({"image": "/etc/passwd"}, "image outside its folder"),
        ({"image": 3}, "image is not a file name"),
        ({"caption": " \n"}, "empty caption"),
        ({"caption": None}, "caption is not text"),
        ({"caption": ["A dog."]}, "caption is not text"),
        ({"caption": "half a pair \ud83d"}, "text is not Unicode"),
        ({"negative_captions": "A cat."}, "negatives is not a list"),
        ({"negative_captions": ["A cat.", 3]}, "negatives are not all text"),
        ({"negative_captions": ["half a pair \ud83d"]}, "text is not Unicode"),
        ({"negative_mask": [1, 1]}, "mask and negatives differ in length"),
        ({"negative_mask": ["yes"]}, "negative_mask is not a list of whole numbers"),
    ],
)
def test_each_kind_of_bad_row_is_skipped_and_counted_or_raised(folder, bad, reason):
    path = lines(folder, GOOD, GOOD | bad, GOOD)
    report = RowReport()
    assert len(load_captions(path, report=report)) == 2
    assert (report.kept, report.total, report.reasons) == (2, 3, {reason: 1})
    assert (report.bad[0].source, report.bad[0].row) == (str(path), 2)
    with pytest.raises(ValueError, match=rf"rows\.jsonl, row 2: {reason}"):
        load_captions(path, on_bad_row="raise")


def test_a_record_that_is_no_object_is_a_bad_row(folder):
    report = RowReport()
    assert len(load_captions(lines(folder, GOOD, "A dog.", [1]), report=report)) == 1
    assert report.reasons == {"row is not an object": 2}


def test_a_csv_row_with_too_many_cells_is_a_bad_row(folder):
    (folder / "rows.csv").write_text("image,caption\ngood.jpg,A dog.\ngood.jpg,A dog, a cat.\n")
    report = RowReport()
    assert len(load_captions(folder / "rows.csv", report=report)) == 1
    assert [(bad.row, bad.problem.reason) for bad in report.bad] == [(3, "row has more cells than the header")]


def test_coco_rows_with_a_duplicate_id_or_without_an_image_are_bad(folder):
    annotations = [{"id": n, "image_id": image, "caption": "A dog."} for n, image in [(1, 7), (2, 7), (1, 7), (3, 8)]]
    coco = {"images": [{"id": 7, "file_name": "good.jpg"}], "annotations": annotations}
    (folder / "coco.json").write_text(json.dumps(coco))
    report = RowReport()
    assert len(load_captions(folder / "coco.json", report=report)) == 2
    assert [(bad.row, bad.problem.reason) for bad in report.bad] == [(3, "duplicate id"), (4, "unknown image id")]


def test_an_image_number_that_fits_no_path_is_a_bad_row(folder):
    rows = [{"image_id": n, "original": "A dog.", "enhanced": None} for n in ["seven", 7]]
    (folder / "degla.json").write_text(json.dumps(rows))
    (folder / "good.jpg").rename(folder / "007.jpg")
    report = RowReport()
    dataset = load_captions(folder / "degla.json", image_pattern="{image_id:03d}.jpg", report=report)
    assert dataset["negative_captions"][:] == [[]]
    assert report.reasons == {"image_id does not fit the image pattern": 1}


def test_stored_pictures_are_checked_and_the_sound_ones_kept_in_place(folder):
    good = (folder / "good.jpg").read_bytes()
    pictures = [{"bytes": data, "path": None} for data in (good, good[:200], good)] + [
        {"bytes": None, "path": "absent.jpg"}
    ]
    dataset = Dataset.from_dict({"image": pictures, "caption": list("abcd")}).cast_column("image", ImageFeature())
    report = RowReport()
    loaded = load_captions(dataset, report=report)
    assert loaded["caption"][:] == ["a", "c"]
    assert [image.size for image in loaded["image"]] == [(64, 64)] * 2
    assert [(bad.row, bad.problem.reason) for bad in report.bad] == [(2, "unreadable image"), (4, "missing image")]


def test_one_warning_names_the_first_ten_bad_rows_and_counts_all(folder, caplog):
    bad = [GOOD | {"image": f"absent{n}.jpg"} for n in range(12)]
    with caplog.at_level(logging.WARNING):
        load_captions(lines(folder, GOOD, *bad, GOOD | {"caption": ""}))
    (record,) = caplog.records
    assert "13 of 14 rows cannot be used (missing image 12, empty caption 1)" in record.getMessage()
    assert record.getMessage().count("\n") == 10


def test_a_clean_source_logs_nothing(folder, caplog):
    load_captions(lines(folder, GOOD))
    assert not caplog.records


def test_nothing_usable_is_an_error_that_names_rows(folder):
    with pytest.raises(ValueError, match=r"2 of 2 rows cannot be used \(missing image 2\):\n.*row 1: missing image"):
        load_captions(lines(folder, *[GOOD | {"image": "absent.jpg"}] * 2))


def test_policies_and_counts_are_checked(folder):
    with pytest.raises(ValueError, match="on_bad_row='ignore' is not one of skip, raise"):
        load_captions(lines(folder, GOOD), on_bad_row="ignore")
    with pytest.raises(ValueError, match="num_negatives=-1"):
        load_captions(lines(folder, GOOD), num_negatives=-1)
    with pytest.raises(FileNotFoundError, match="no image folder"):
        load_captions(lines(folder, GOOD), images=folder / "absent")


def test_rows_of_other_images_are_neither_kept_nor_bad(folder):
    path = lines(folder, GOOD | {"image_id": 7}, GOOD | {"image": "absent.jpg", "caption": ""})
    (folder / "only.txt").write_text("good.jpg\n\nnowhere.jpg\n")
    for only in [folder / "only.txt", str(folder / "only.txt"), ["good.jpg", "nowhere.jpg"], {"7", "8"}, [7, 8]]:
        report = RowReport()
        assert len(load_captions(path, only=only, report=report, on_bad_row="raise")) == 1
        assert report.notes == {"image asked for without a row": 1}
    with pytest.raises(ValueError, match="no row is left; image asked for without a row 1"):
        load_captions(path, only=["nowhere.jpg"])


def test_neighbors_follow_their_rows_and_lose_those_left_out(folder):
    """Rows 0, 2 and 3 stay, as 0, 1 and 2; row 1 is bad and row 9 was never there."""
    names = ["good.jpg", "absent.jpg", "good.jpg", "good.jpg"]
    near = [[1, 2, 3], [0], [3, 1], [0, 9]]
    rows = [f"{name}\tA dog.\t[]\t{neighbors}\n" for name, neighbors in zip(names, near, strict=True)]
    (folder / "rows.tsv").write_text("filepath\ttitle\tneg_caption\tneg_image\n" + "".join(rows))
    assert load_captions(folder / "rows.tsv")["neighbors"][:] == [[1, 2], [2], [0]]


def test_normalisation_ignores_case_spaces_and_final_punctuation_only():
    assert normalised("  A  Gray\tcat. ") == normalised("a gray cat !") == "a gray cat"
    assert normalised("a cat, gray") != normalised("a cat gray")
    assert normalised("...") == ""


NEGATIVES = ["a DOG", "A cat.", "", "a  cat", "###", "A cow."]
FAULTS = {
    "negative equal to its caption": 1,
    "negative empty": 1,
    "negative repeated in its row": 1,
    "negative marked invalid": 1,
}


def test_useless_negatives_are_dropped_where_slots_have_no_type():
    texts, mask, faults = clean_negatives("A dog.", NEGATIVES)
    assert (texts, mask) == (["A cat.", "A cow."], [1, 1])
    assert Counter(faults) == FAULTS


def test_useless_negatives_are_masked_where_slots_have_a_type():
    texts, mask, faults = clean_negatives("A dog.", NEGATIVES, [1, 1, 1, 1, 1, 0])
    assert (texts, mask) == (NEGATIVES, [0, 1, 0, 0, 0, 0])
    assert Counter(faults) == FAULTS | {"negative marked invalid": 2}


def test_a_masked_negative_does_not_make_a_later_equal_one_a_repetition():
    assert clean_negatives("A dog.", ["A cat.", "A cat."], [0, 1])[1] == [0, 1]


def test_slots_are_cut_and_filled_to_the_number_asked_for(folder):
    path = lines(
        folder, GOOD, GOOD | {"negative_captions": ["a", "b", "A dog", "c"]}, GOOD | {"negative_captions": None}
    )
    report = RowReport()
    dataset = load_captions(path, num_negatives=2, report=report)
    assert dataset["negative_captions"][:] == [["A cat.", ""], ["a", "b"], ["", ""]]
    assert dataset["negative_mask"][:] == [[1, 0], [1, 1], [0, 0]]
    assert report.notes == {"negative equal to its caption": 1, "row with fewer than 2 negatives": 2}
    assert load_captions(path)["negative_captions"][:] == [["A cat."], ["a", "b", "c"], []]


def test_a_masked_slot_counts_as_a_missing_negative(folder):
    report = RowReport()
    dataset = load_captions(lines(folder, GOOD | {"negative_mask": [0]}), num_negatives=1, report=report)
    assert dataset["negative_mask"][:] == [[0]]
    assert report.notes["row with fewer than 1 negatives"] == 1


def test_a_report_counts_rows_and_reasons():
    report = RowReport(kept=3)
    bad_rows = BadRows("rows.csv", [1, 4, 5], "skip", report)
    for index, reason in enumerate(["missing image", "empty caption", "missing image"]):
        bad_rows.add(index, RowProblem(reason, "here"))
    assert (report.total, report.reasons) == (6, {"missing image": 2, "empty caption": 1})
    assert str(report.bad[1]) == "rows.csv, row 4: empty caption (here)"


def test_bad_rows_are_removed_from_the_others_or_raised_by_name():
    report = RowReport()
    problems = {1: RowProblem("missing image", "b.jpg")}
    bad_rows = BadRows("rows.csv", [2, 3, 4], "skip", report)
    assert bad_rows.remove(problems, {0: "a", 1: "b", 2: "c"}) == {0: "a", 2: "c"}
    assert [str(bad) for bad in report.bad] == ["rows.csv, row 3: missing image (b.jpg)"]
    with pytest.raises(ValueError, match=r"^rows\.csv, row 3: missing image \(b\.jpg\)$"):
        BadRows("rows.csv", [2, 3, 4], "raise", report).remove(problems, {})


def test_the_first_bad_row_in_the_file_is_raised_whatever_is_wrong_with_it(folder):
    """All cells of a row are checked before those of the next."""
    path = lines(folder, GOOD, GOOD | {"caption": ""}, "no object", GOOD | {"negative_captions": "A cat."})
    with pytest.raises(ValueError, match="row 2: empty caption"):
        load_captions(path, on_bad_row="raise")


def test_negatives_of_rows_left_out_are_not_noted(folder):
    report = RowReport()
    load_captions(lines(folder, GOOD, GOOD | {"image": "absent.jpg", "negative_captions": [""]}), report=report)
    assert (report.kept, report.notes) == (1, {})
