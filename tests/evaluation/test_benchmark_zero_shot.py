"""Zero-shot classification: a class is the mean of its prompts, and sets are read as people keep them."""

import json

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn.functional import normalize

from compalign.evaluation import encode_references, evaluate_model
from compalign.evaluation.benchmarks import ZERO_SHOT_SETS, ZeroShotClassification, ZeroShotSet

COLOURS = {"dark_red": (150, 0, 0), "green": (0, 200, 0), "navy_blue": (0, 0, 120)}
TEMPLATE_COUNTS = {
    "cifar10": 18,
    "cifar100": 18,
    "food101": 1,
    "pets": 1,
    "flowers102": 1,
    "sun397": 2,
    "cars": 8,
    "dtd": 8,
    "caltech101": 34,
    "aircraft": 2,
    "imagenet": 80,
}


def picture(colour, size=(8, 8)):
    return Image.new("RGB", size, colour)


def write_class_folders(folder, names=tuple(COLOURS), count=2):
    for name in names:
        (folder / name).mkdir(parents=True)
        for k in range(count):
            picture(COLOURS.get(name, (9, 9, 9))).save(folder / name / f"{k}.png")
    return folder


def test_the_eleven_sets_have_openais_numbers_of_templates():
    assert {name: len(facts["templates"]) for name, facts in ZERO_SHOT_SETS.items()} == TEMPLATE_COUNTS
    for facts in ZERO_SHOT_SETS.values():
        assert len(set(facts["templates"])) == len(facts["templates"])
        assert all(template.count("{}") == 1 for template in facts["templates"])
    by_class = {name for name, facts in ZERO_SHOT_SETS.items() if facts["mean_per_class"]}
    assert by_class == {"pets", "flowers102", "caltech101", "aircraft"}


def test_top1_is_over_images_and_the_other_mean_over_classes():
    benchmark = ZeroShotClassification([picture("red")] * 4, [0, 0, 0, 1], ["cat", "dog"])
    scores = np.array([[2, 2, 0, 3], [1, 0, 1, 2]])[None]  # (1, classes, images)
    metrics, rows = benchmark.score(scores)
    values = {name: score.value for name, score in metrics.items()}
    assert values == pytest.approx({"top1": 2 / 4, "mean_per_class": (2 / 3 + 0) / 2})
    assert {score.chance for score in metrics.values()} == {1 / 2}
    assert [row["chosen"] for row in rows] == ["cat", "cat", "dog", "cat"]
    assert [row["correct"] for row in rows] == [True, True, False, False]


def test_a_class_has_one_prompt_a_template():
    templates = ["a {}.", "the {} and the {}"]
    benchmark = ZeroShotClassification([picture("red")], [0], ["{x}", "dog"], templates)
    assert benchmark.texts == [("a {x}.", "the {x} and the {x}"), ("a dog.", "the dog and the dog")]
    assert ZeroShotClassification([picture("red")], [0], ["cat"]).texts == ["a photo of a cat."]


def test_a_class_is_the_normalised_mean_of_its_normalised_prompts(model, processor):
    """Cosines with the class features equal what is computed prompt by prompt, the published way."""
    images, templates = [picture(colour) for colour in COLOURS.values()], ["a {}.", "two {} on a sofa", "the {}"]
    benchmark = ZeroShotClassification(images, [0, 1, 1], ["dog", "red cat"], templates)
    encoded = encode_references(model, processor, benchmark.images, benchmark.texts, progress=False)
    scores = encoded.scores(benchmark.image_groups, benchmark.text_groups)[0]  # (classes, images)
    model.eval()
    with torch.no_grad():
        pixels = processor.image_processor(images=images, return_tensors="pt")["pixel_values"]
        image_features = normalize(model.get_image_features(pixel_values=pixels).pooler_output, dim=-1)
        for k, name in enumerate(["dog", "red cat"]):
            prompts = [processor.tokenizer(template.replace("{}", name), return_tensors="pt") for template in templates]
            features = torch.cat([normalize(model.get_text_features(**p).pooler_output, dim=-1) for p in prompts])
            weight = normalize(features.mean(dim=0), dim=-1)
            np.testing.assert_allclose(scores[k], (image_features @ weight).numpy(), atol=1e-6)


def test_prompts_that_classes_share_are_encoded_once(model, processor, counts):
    benchmark = ZeroShotClassification([picture("red")], [0], ["dog", "dogs"], ["{}", "{}s", "a {}"])
    results = evaluate_model(model, processor, [benchmark], progress=False)
    # dog, dogs, a dog; dogs, dogss, a dogs
    assert counts["texts"] == results.encoded["texts_encoded"] == 5


def test_classes_of_one_name_are_never_right_and_said_to_be():
    benchmark = ZeroShotClassification([picture("red")] * 2, [0, 1], ["crane", "crane", "dog"])
    assert benchmark.notes == ["class names that are not unique: 1, such as crane; images of these classes are misses"]
    metrics, _ = benchmark.score(np.array([[2, 2], [2, 2], [1, 1]])[None])
    assert metrics["top1"].value == 0


@pytest.mark.parametrize(
    ("labels", "names", "templates", "message"),
    [
        ([0, 2], ["a", "b"], ["{}"], r"labels span 0\.\.2; must be in 0\.\.1"),
        ([0, -1], ["a", "b"], ["{}"], r"labels span -1\.\.0"),
        ([0], ["a"], ["{}"], r"2 images with labels of shape \(1,\)"),
        ([0, 0], ["a"], ["a photo"], "templates \\['a photo'\\]"),
        ([0, 0], ["a"], [], r"templates \[\]"),
    ],
)
def test_what_does_not_fit_together_is_refused(labels, names, templates, message):
    with pytest.raises(ValueError, match=message):
        ZeroShotClassification([picture("red")] * 2, labels, names, templates)


def test_folders_are_classes_and_their_names_are_written_as_words(tmp_path):
    benchmark = ZeroShotSet("dtd", write_class_folders(tmp_path))
    assert benchmark.class_names == ["dark red", "green", "navy blue"]
    assert benchmark.labels.tolist() == [0, 0, 1, 1, 2, 2]
    assert benchmark.texts[0][0] == "a photo of a dark red texture."
    assert (benchmark.name, benchmark.columns) == ("zero_shot_dtd", {"top1": "DTD"})
    assert benchmark.notes == [
        "6 images where the usual test split has 1880",
        "3 classes where the usual test split has 47",
    ]


def test_the_headline_of_pets_is_the_mean_per_class(tmp_path):
    benchmark = ZeroShotSet("pets", write_class_folders(tmp_path))
    assert benchmark.columns == {"mean_per_class": "Pets"}


def test_folders_of_sun397_and_caltech101_have_openais_names(tmp_path):
    write_class_folders(tmp_path / "sun", ["a/abbey", "g/garage/indoor"])
    assert ZeroShotSet("sun397", tmp_path / "sun").class_names == ["abbey", "garage indoor"]
    write_class_folders(tmp_path / "caltech", ["car_side", "sea_horse", "yin_yang"])
    names = ["side of a car", "sea horse", "yin and yang symbol"]
    assert ZeroShotSet("caltech101", tmp_path / "caltech").class_names == names


def test_files_that_are_no_images_of_a_class_are_counted(tmp_path):
    write_class_folders(tmp_path)
    (tmp_path / "green" / "notes.txt").write_text("")
    picture("red").save(tmp_path / "stray.png")
    benchmark = ZeroShotSet("dtd", tmp_path)
    assert len(benchmark.images) == 6
    assert benchmark.notes[0] == "2 files that are not images in folders of classes are left out"


@pytest.mark.parametrize("names", [["n01440764", "n01443537"], ["1", "2"]])
def test_folders_with_numbers_for_names_need_names(tmp_path, names):
    write_class_folders(tmp_path, names)
    with pytest.raises(ValueError, match=r"2 classes have numbers instead of names, such as .*; give class_names"):
        ZeroShotSet("imagenet", tmp_path)
    benchmark = ZeroShotSet("imagenet", tmp_path, class_names=["tench", "goldfish"])
    assert benchmark.class_names == ["tench", "goldfish"]


def test_class_names_may_be_a_file_in_order_or_by_folder(tmp_path):
    write_class_folders(tmp_path / "set")
    (tmp_path / "list.json").write_text(json.dumps(["x", "y", "z"]))
    (tmp_path / "mapping.json").write_text(json.dumps({"navy_blue": "z", "green": "y", "dark_red": "x", "other": "o"}))
    for file in ("list.json", "mapping.json"):
        assert ZeroShotSet("dtd", tmp_path / "set", class_names=tmp_path / file).class_names == ["x", "y", "z"]
    with pytest.raises(ValueError, match="2 class_names for the 3 classes"):
        ZeroShotSet("dtd", tmp_path / "set", class_names=["x", "y"])
    with pytest.raises(ValueError, match=r"no name for 2 classes of .*, such as 'dark_red'"):
        ZeroShotSet("dtd", tmp_path / "set", class_names={"green": "y"})


@pytest.fixture
def dataset():
    """Four images with class labels whose names are not in the order of the alphabet."""
    datasets = pytest.importorskip("datasets")
    features = datasets.Features(
        {
            "image": datasets.Image(),
            "label": datasets.ClassLabel(names=["navy_blue", "green"]),
            "number": datasets.Value("int64"),
            "word": datasets.Value("string"),
        }
    )
    labels = [1, 0, 1, 1]
    words = ["green", "navy_blue"]
    return datasets.Dataset.from_dict(
        {
            "image": [picture(COLOURS["green" if label else "navy_blue"]) for label in labels],
            "label": labels,
            "number": labels,
            "word": [words[1 - label] for label in labels],
        },
        features=features,
    )


def test_parquet_and_saved_data_sets_keep_the_order_of_their_labels(dataset, tmp_path, model, processor):
    (tmp_path / "data").mkdir()
    dataset.to_parquet(tmp_path / "data" / "test-00000-of-00001.parquet")
    dataset.select([0]).to_parquet(tmp_path / "data" / "train-00000-of-00001.parquet")
    dataset.save_to_disk(tmp_path / "saved")
    sources = [
        ZeroShotSet("cifar10", tmp_path / "data", split="test"),
        ZeroShotSet("cifar10", tmp_path / "data" / "test-00000-of-00001.parquet"),
        ZeroShotSet("cifar10", tmp_path / "saved"),
    ]
    for benchmark in sources:
        assert (benchmark.class_names, benchmark.labels.tolist()) == (["navy blue", "green"], [1, 0, 1, 1])
    result = evaluate_model(model, processor, [sources[0]], progress=False)
    assert result.benchmarks["zero_shot_cifar10"].scores["top1"].n == 4
    assert ZeroShotSet("cifar10", tmp_path / "data").labels.tolist() == [1, 0, 1, 1, 1]


def test_labels_may_be_words_or_numbers(dataset, tmp_path):
    dataset.to_parquet(tmp_path / "x.parquet")
    benchmark = ZeroShotSet("cifar10", tmp_path / "x.parquet", label_column="word")
    assert (benchmark.class_names, benchmark.labels.tolist()) == (["green", "navy blue"], [0, 1, 0, 0])
    with pytest.raises(ValueError, match="the labels are numbers without names; give class_names in their order"):
        ZeroShotSet("cifar10", tmp_path / "x.parquet", label_column="number")
    benchmark = ZeroShotSet("cifar10", tmp_path / "x.parquet", ["blue", "green"], label_column="number")
    assert benchmark.class_names == ["blue", "green"]


def test_what_cannot_be_read_is_named(dataset, tmp_path):
    dataset.to_parquet(tmp_path / "train.parquet")
    with pytest.raises(ValueError, match=r"no column img; its columns are image, label, number, word"):
        ZeroShotSet("cifar10", tmp_path, image_column="img")
    with pytest.raises(ValueError, match=r"no file name begins with the split 'test'; there are train\.parquet"):
        ZeroShotSet("cifar10", tmp_path, split="test")
    with pytest.raises(ValueError, match="dataset 'mnist'; must be one of cifar10"):
        ZeroShotSet("mnist", tmp_path)
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match=r"no images .* in folders of classes, and no parquet files"):
        ZeroShotSet("cifar10", tmp_path / "empty")
