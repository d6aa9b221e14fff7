"""What benchmarks read from files share: records, sizes, images that are there, and nested averages."""

import pytest
from annotated import touch_images, write_json

from compalign.evaluation.benchmarks.choice import kind_shares
from compalign.evaluation.benchmarks.coverage import find_images
from compalign.evaluation.benchmarks.records import check_sizes, read_records


def test_records_keep_their_ids_and_their_order_in_every_form(tmp_path):
    records = [{"id": 7, "caption": "a"}, {"id": 3, "caption": "b", "more": 1}]
    lines = tmp_path / "lines.jsonl"
    lines.write_text('{"id": 7, "caption": "a"}\n{"id": 3, "caption": "b", "more": 1}\n')
    mapping = write_json(tmp_path / "mapping.json", {"7": records[0], "3": records[1]})
    for path in (lines, mapping, write_json(tmp_path / "list.json", records)):
        assert list(read_records(path, {"caption": str}).items()) == [("7", records[0]), ("3", records[1])]
    assert list(read_records(write_json(tmp_path / "plain.json", [{}, {}]), {})) == ["0", "1"]


@pytest.mark.parametrize("content", [[{"caption": 5}], [{}], ["a"], {"0": None}])
def test_a_damaged_record_is_named(tmp_path, content):
    with pytest.raises(ValueError, match=r"items\.json, item '0': .*; needs caption \(str\)"):
        read_records(write_json(tmp_path / "items.json", content), {"caption": str})


@pytest.mark.parametrize(("content", "message"), [("5", "needs a mapping or a list"), ('{"a": ', "not JSON")])
def test_a_file_that_holds_no_records_is_refused(tmp_path, content, message):
    (tmp_path / "items.json").write_text(content)
    with pytest.raises(ValueError, match=message):
        read_records(tmp_path / "items.json", {})


def test_sizes_are_those_of_the_complete_set_or_of_a_subset_and_nothing_between():
    expected = {"one": 3, "two": 2}
    assert check_sizes({"one": "abc", "two": "ab"}, expected, "data") == []
    assert check_sizes({"one": "ab", "two": ""}, expected, "data") == ["a subset: 2 of 5 items of the complete set"]
    for listed in ({"one": "abc", "two": "a"}, {"one": "", "two": ""}, {"one": "ab", "two": "abc"}):
        with pytest.raises(ValueError, match=r"data: \{.*\} items where the complete set has \{"):
            check_sizes(listed, expected, "data")


def test_images_are_found_item_by_item_and_the_missing_are_counted_once(tmp_path):
    touch_images(tmp_path, ["a.jpg", "b/c.jpg"])
    listed = [
        (tmp_path, "a.jpg"),
        (tmp_path, "x.jpg"),
        (tmp_path / "b", "c.jpg"),
        (tmp_path / "no", "d.jpg"),
        (tmp_path, "x.jpg"),
    ]
    found = find_images(listed, minimum_coverage=0.4)
    assert found.paths == [tmp_path / "a.jpg", None, tmp_path / "b" / "c.jpg", None, None]
    assert found.missing == ["d.jpg", "x.jpg"]
    assert found.notes == ["3 of 5 items left out: 2 of 4 images are missing, such as d.jpg, x.jpg"]
    with pytest.raises(ValueError, match=r"3 of 5 items left out.*minimum_coverage is 0\.41"):
        find_images(listed, minimum_coverage=0.41)


def test_images_outside_their_folder_and_impossible_coverage_are_refused(tmp_path):
    with pytest.raises(ValueError, match="outside"):
        find_images([(tmp_path / "images", "../secret.jpg")])
    with pytest.raises(ValueError, match=r"minimum_coverage 97; must be in \[0, 1\]"):
        find_images([], minimum_coverage=97)


def test_branches_count_equally_whatever_is_in_them():
    tree = {"a": {"b": ["one", "two"], "c": ["three"]}, "d": ["four"]}
    assert kind_shares(tree) == {"one": 1 / 8, "two": 1 / 8, "three": 1 / 4, "four": 1 / 2}
    assert kind_shares(tree, {"two", "three"}) == {"two": 1 / 2, "three": 1 / 2}
    assert kind_shares(tree, set()) == {}
