"""SVO-Probes: a sentence must score strictly higher with its own image."""

import csv

import numpy as np
import pytest

from compalign.evaluation.benchmarks import SvoProbes

HEADER = ["sentence", "pos_triplet", "neg_triplet", "pos_image_id", "neg_image_id", "subj_neg", "verb_neg", "obj_neg"]


@pytest.fixture
def write(tmp_path):
    """Write a table of rows (positive image, negative image, three flags), and the images that it names."""

    def write(rows, header=HEADER, images=True):
        with (tmp_path / "svo_probes.csv").open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(header)
            for position, (own, other, *flags) in enumerate(rows):
                writer.writerow([f"sentence {position}, of one", "a,b,c", "a,d,c", own, other, *flags])
        for image in {image for row in rows for image in row[:2]} if images else ():
            (tmp_path / f"{image}.jpg").write_bytes(b"picture")
        return tmp_path / "svo_probes.csv", tmp_path

    return write


def test_each_kind_is_the_share_of_sentences_that_prefer_their_image(write):
    rows = [
        (1, 2, True, False, False),
        (3, 4, False, True, False),
        (1, 5, False, True, False),
        (6, 7, False, False, True),
    ]
    benchmark = SvoProbes(*write(rows))
    assert benchmark.image_groups.tolist() == [[0, 1], [2, 3], [4, 5], [6, 7]]
    assert [benchmark.images[k].name for k in (0, 1, 4, 5)] == ["1.jpg", "2.jpg", "1.jpg", "5.jpg"]
    scores = np.array([[2, 1], [1, 2], [2, 1], [1, 1]])[:, None, :]  # (rows, 1 sentence, 2 images)
    metrics, items = benchmark.score(scores)
    values = {name: score.value for name, score in metrics.items()}
    assert values == pytest.approx({"subject": 1, "verb": 1 / 2, "object": 0, "all_micro": 1 / 2, "all_macro": 1 / 2})
    assert metrics["object"].tie_rate == 1
    assert metrics["verb"].chance == 1 / 2
    assert [row["correct"] for row in items] == [True, False, True, False]
    assert set(benchmark.columns) <= set(values)


def test_rows_that_differ_in_several_ways_do_not_count(write):
    benchmark = SvoProbes(
        *write([(1, 2, True, True, False), (3, 4, "False", "false", "TRUE"), (5, 6, False, False, False)])
    )
    assert benchmark.kinds.tolist() == ["object"]
    assert benchmark.notes == ["2 rows whose images differ in several ways do not count"]
    assert (benchmark.n_found, benchmark.n_listed) == (1, 1)


def test_a_row_needs_both_images(write):
    path, folder = write([(1, 2, True, False, False), (3, 4, True, False, False)])
    (folder / "4.jpg").unlink()
    with pytest.raises(ValueError, match=r"1 of 4 images are missing, such as 4\.jpg"):
        SvoProbes(path, folder)
    benchmark = SvoProbes(path, folder, minimum_coverage=0.5)
    assert (benchmark.n_found, benchmark.n_listed, benchmark.missing_images) == (1, 2, ["4.jpg"])
    assert any("1 of 2 rows left out" in note for note in benchmark.notes)
    (folder / "1.jpg").unlink()
    with pytest.raises(ValueError, match="2 rows, but no row has both its images"):
        SvoProbes(path, folder, minimum_coverage=0)


def test_a_missing_column_and_a_strange_flag_are_named(write):
    with pytest.raises(ValueError, match="verb_neg"):
        SvoProbes(*write([(1, 2, True, False, False)], header=[name.replace("verb", "x") for name in HEADER]))
    with pytest.raises(ValueError, match=r"row 2: .*needs a sentence, and True or False"):
        SvoProbes(*write([(1, 2, "yes", False, False)]))
