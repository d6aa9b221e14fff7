"""CREPE: a region's caption against its own hard negatives, however many they are."""

import csv

import numpy as np
import pytest

from compalign.data.images import ImageCrop
from compalign.evaluation.benchmarks import CrepeProductivity, CrepeSystematicity

REGION = {"image_id": 2, "x": 3, "y": 4, "width": 10, "height": 20}


def write_table(path, rows):
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


@pytest.fixture
def systematicity(tmp_path):
    """Two seen compounds, of one and two negatives of atoms, and one unseen; some columns are empty lists."""
    seen = [
        REGION | {"caption": "a red walk", "valid_hard_negs_atom": ["a blue walk"], "valid_hard_negs_comp": []},
        REGION
        | {
            "caption": "it's big",
            "valid_hard_negs_atom": ["it's small", "it's red"],
            "valid_hard_negs_comp": ["a", "b"],
        },
    ]
    unseen = [REGION | {"caption": "a dog", "valid_hard_negs_atom": ["a cat"], "valid_hard_negs_comp": ["dog a", "x"]}]
    write_table(tmp_path / "syst_vg_hard_negs_seen_compounds_in_laion.csv", seen)
    write_table(tmp_path / "syst_vg_hard_negs_unseen_compounds_in_laion.csv", unseen)
    (tmp_path / "VG_100K_2").mkdir()
    (tmp_path / "VG_100K_2" / "2.jpg").write_bytes(b"picture")
    return tmp_path


def test_regions_are_cropped_and_found_in_either_part(systematicity):
    benchmark = CrepeSystematicity(systematicity, systematicity)
    assert benchmark.images[0] == ImageCrop((systematicity / "VG_100K_2" / "2.jpg").resolve(), (3, 4, 13, 24))
    assert benchmark.kinds.tolist() == ["seen_atom", "seen_atom", "seen_comp", "unseen_atom", "unseen_comp"]
    assert benchmark.notes[0] == "1 captions without a negative do not count"


def test_the_last_negative_is_repeated_and_changes_neither_score_nor_chance(systematicity):
    benchmark = CrepeSystematicity(systematicity, systematicity)
    assert benchmark.items[0].captions == ("a red walk", "a blue walk", "a blue walk")
    scores = np.array([[2, 1, 1], [1, 2, 0], [3, 0, 1], [1, 1, 1], [2, 1, 0]])[:, :, None]
    metrics, _ = benchmark.score(scores)
    values = {name: score.value for name, score in metrics.items()}
    assert (values["seen_atom"], values["seen_comp"], values["unseen_atom"], values["unseen_comp"]) == (0.5, 1, 0, 1)
    assert (values["seen_macro"], values["seen_micro"]) == pytest.approx((0.75, 2 / 3))
    chances = {name: score.chance for name, score in metrics.items()}
    assert chances["seen_atom"] == pytest.approx((1 / 2 + 1 / 3) / 2)
    assert chances["seen_micro"] == pytest.approx((1 / 2 + 1 / 3 + 1 / 3) / 3)
    assert chances["seen_macro"] == pytest.approx((5 / 12 + 1 / 3) / 2)
    assert chances["unseen_atom"] == 1 / 2
    assert set(benchmark.columns) <= set(metrics)


def test_an_unknown_training_set_is_refused(systematicity):
    with pytest.raises(ValueError, match=r"training_set 'wit'; must be one of cc12m, yfcc, laion"):
        CrepeSystematicity(systematicity, systematicity, training_set="wit")


@pytest.mark.parametrize(
    "change",
    [{"x": "left"}, {"valid_hard_negs_atom": "['a'"}, {"valid_hard_negs_atom": "'a'"}, {"valid_hard_negs_atom": "[3]"}],
)
def test_a_damaged_row_is_named(systematicity, change):
    row = REGION | {"caption": "a", "valid_hard_negs_atom": ["b"], "valid_hard_negs_comp": ["c"]}
    write_table(systematicity / "syst_vg_hard_negs_seen_compounds_in_laion.csv", [row, row | change])
    with pytest.raises(ValueError, match=r"seen_compounds_in_laion\.csv, row 3"):
        CrepeSystematicity(systematicity, systematicity)


def test_a_missing_column_is_named(systematicity):
    write_table(systematicity / "syst_vg_hard_negs_seen_compounds_in_laion.csv", [REGION | {"caption": "a"}])
    with pytest.raises(ValueError, match="valid_hard_negs_atom"):
        CrepeSystematicity(systematicity, systematicity)


def test_productivity_averages_over_the_number_of_atoms(tmp_path):
    negatives = [f"wrong {k}" for k in range(5)]
    for kind in ("atom", "swap", "negate"):
        for atoms in range(4, 13):
            rows = [REGION | {"caption": f"{kind} {atoms}", "hard_negs": negatives}] * (2 if atoms == 4 else 1)
            write_table(tmp_path / kind / f"prod_vg_hard_negs_{kind}_complexity_{atoms}.csv", rows)
    (tmp_path / "2.jpg").write_bytes(b"picture")
    benchmark = CrepeProductivity(tmp_path, tmp_path)
    scores = np.zeros((30, 6, 1))
    scores[:2, 0] = 1  # atom_4 alone
    metrics, _ = benchmark.score(scores)
    values = {name: score.value for name, score in metrics.items()}
    assert (values["atom_4"], values["atom_5"]) == (1, 0)
    assert (values["atom_macro"], values["atom_micro"]) == pytest.approx((1 / 9, 2 / 10))
    assert metrics["swap_macro"].chance == pytest.approx(1 / 6)
    assert set(benchmark.columns) <= set(metrics)
