"""A recipe is a command line written down: flags beat it, it beats the defaults, and nothing in it is ignored."""

import runpy
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from compalign.trainers import CECLIPArguments, DeGLAArguments, NegCLIPArguments
from compalign.trainers.entry import DataArguments, ModelArguments
from compalign.trainers.recipe import parse_recipe

REPOSITORY = Path(__file__).resolve().parents[2]
PUBLISHED = {"negclip": NegCLIPArguments, "ceclip": CECLIPArguments, "degla": DeGLAArguments}


@dataclass
class Small:
    """One field of each kind that recipes hold."""

    data: str = field(metadata={"help": "Required."})
    rate: float = field(default=0.5, metadata={"help": "A number."})
    steps: int = field(default=3)
    label: str | None = field(default="plain")
    chatty: bool = field(default=True)
    crop: list[float] | None = field(default_factory=lambda: [0.9, 1.0])
    trackers: None | str | list[str] = field(default=None)  # noqa: RUF036 - the Trainer's own spelling of report_to
    options: dict | str | None = field(default=None)


@pytest.fixture
def parse(tmp_path):
    """Parse a recipe given as text, and flags."""

    def parsed(text: str, *flags: str, kinds: tuple[type, ...] = (Small,)):
        path = tmp_path / "recipe.yaml"
        path.write_text(text)
        filled = parse_recipe(*kinds, arguments=["--config", str(path), *flags])
        return filled[0] if len(kinds) == 1 else filled

    return parsed


def test_a_flag_beats_the_recipe_and_the_recipe_beats_the_default(parse):
    small = parse("data: here\nrate: 0.25\nsteps: 7\n", "--rate", "0.125")
    assert (small.rate, small.steps, small.label) == (0.125, 7, "plain")
    assert parse("data: here\ncrop: [0.5, 0.6]\n", "--crop", "0.7", "0.8").crop == [0.7, 0.8]
    assert parse("data: here\nchatty: false\n", "--chatty", "true").chatty is True


@pytest.mark.parametrize("place", ["before", "after"])
def test_flags_win_wherever_the_recipe_is_named(place, tmp_path):
    path = tmp_path / "recipe.yaml"
    path.write_text("data: here\nsteps: 7\n")
    flags = ["--steps", "9"]
    arguments = [*flags, f"--config={path}"] if place == "before" else ["--config", str(path), *flags]
    assert parse_recipe(Small, arguments=arguments)[0].steps == 9


@pytest.mark.parametrize(
    ("line", "name", "value"),
    [
        ("rate: 1e-6", "rate", 1e-6),  # text to PyYAML, which wants 1.0e-6
        ("rate: 1", "rate", 1.0),
        ("crop: null", "crop", None),
        ("crop: [0.08, 1]", "crop", [0.08, 1.0]),
        ("crop: [8e-2, 1]", "crop", [0.08, 1.0]),
        ("label: null", "label", None),
        ("label: 12", "label", "12"),
        ("label: -rate=3", "label", "-rate=3"),
        ("label: ''", "label", ""),
        ("chatty: no", "chatty", False),
        ("chatty: 'false'", "chatty", False),
        ("trackers: none", "trackers", "none"),
        ("trackers: [first, second]", "trackers", ["first", "second"]),
        ("options: {depth: 2, rate: 0.1}", "options", {"depth": 2, "rate": 0.1}),
    ],
)
def test_values_arrive_in_the_type_of_their_field(line, name, value, parse):
    found = getattr(parse(f"data: here\n{line}\n"), name)
    assert found == value
    assert type(found) is type(value)


def test_the_bare_no_of_yaml_names_a_strategy(parse):
    args = parse("output_dir: runs\nsave_strategy: no\n", kinds=(NegCLIPArguments,))
    assert args.save_strategy == "no"


def test_each_dataclass_gets_its_own_keys(parse):
    data, args = parse("train: a.jsonl\nlearning_rate: 1e-6\n", kinds=(DataArguments, NegCLIPArguments))
    assert (data.train, args.learning_rate) == ("a.jsonl", 1e-6)


@pytest.mark.parametrize(
    ("text", "flags", "message"),
    [
        ("data: here\nstep: 3\n", [], r"recipe .*recipe\.yaml: unknown key 'step'; the nearest known one is 'steps'"),
        ("data: here\n3: 3\n", [], r"recipe .*recipe\.yaml: unknown key 3"),
        ("data: here\n", ["--ratio", "1"], "command line: unknown key 'ratio'; the nearest known one is 'rate'"),
        ("data: here\n", ["--ratio=1"], "command line: unknown key 'ratio'"),
        ("data: here\n", ["--stray", "--rate", "1"], "command line: unknown key 'stray'"),
        ("data: here\n", ["--rate", "1", "stray"], "command line: stray belongs to no flag"),
        ("data: here\n", ["--ste", "4"], "command line: unknown key 'ste'; the nearest known one is 'steps'"),
        ("- data\n- rate\n", [], r"recipe .*recipe\.yaml must be a mapping of keys to values, got list"),
        ("", [], "must be a mapping of keys to values, got NoneType"),
        ("data: [unclosed\n", [], r"recipe .*recipe\.yaml is not valid YAML: (.|\n)*line 2"),
        ("rate: 1\n", [], "required: --data"),
        ("data:\n", [], r"recipe .*recipe\.yaml: data is None; accepted: .*str"),
        ("data: here\nrate:\n", [], "rate is None; accepted: .*float"),
        ("data: here\nrate: quick\n", [], "--rate: invalid float value: 'quick'"),
        ("data: here\nrate: [0.1, 0.2]\n", [], r"rate is \[0\.1, 0\.2\]; accepted: .*float"),
        ("data: here\nsteps: 2.5\n", [], "--steps: invalid int value: '2.5'"),
        ("data: here\nchatty: perhaps\n", [], "perhaps"),
    ],
)
def test_what_cannot_be_meant_is_named(text, flags, message, parse):
    with pytest.raises(ValueError, match=message):
        parse(text, *flags)


def test_a_choice_in_a_recipe_is_checked_like_a_flag(parse):
    with pytest.raises(ValueError, match=r"--negatives: invalid choice: 'rule' .*dataset.*rules"):
        parse("train: a.jsonl\nnegatives: rule\n", kinds=(DataArguments,))


def test_bytes_that_are_no_text_are_no_recipe(tmp_path):
    path = tmp_path / "recipe.yaml"
    path.write_bytes(b"data: \xff\xfe\n")
    with pytest.raises(ValueError, match=r"recipe .*recipe\.yaml is not valid YAML"):
        parse_recipe(Small, arguments=["--config", str(path)])


def test_a_missing_recipe_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"absent\.yaml"):
        parse_recipe(Small, arguments=["--config", str(tmp_path / "absent.yaml")])


def test_what_the_recipe_gives_is_no_longer_required(parse):
    assert parse("data: here\n").data == "here"
    assert parse_recipe(Small, arguments=["--data", "there"])[0].data == "there"


def test_recipes_leave_no_trace_in_the_next_one(parse):
    parse("data: here\ncrop: null\nsteps: 7\n")
    assert parse("data: here\n") == Small(data="here")


def test_help_says_every_flag_with_its_sentence(capsys):
    with pytest.raises(SystemExit, match="0"):
        parse_recipe(ModelArguments, DataArguments, Small, NegCLIPArguments, arguments=["--help"], description="First.")
    printed = capsys.readouterr().out
    assert "First." in printed
    assert "--config" in printed
    assert "A number." in printed
    for name in ("train", "crop_scale", "negative_choice", "learning_rate"):
        assert f"--{name}" in printed


@pytest.mark.parametrize("method", PUBLISHED)
def test_published_recipes_fill_the_arguments_of_their_entry_point(method):
    recipe = REPOSITORY / "scripts" / "recipes" / f"{method}_coco.yaml"
    kinds = (ModelArguments, DataArguments, PUBLISHED[method])
    start, data, args = parse_recipe(*kinds, arguments=["--config", str(recipe), "--use_cpu", "true"])
    assert start.model == "openai/clip-vit-base-patch32"
    assert data.train
    assert args.per_device_train_batch_size == 256
    assert 0 < args.learning_rate < 1e-4


@pytest.mark.parametrize("method", PUBLISHED)
def test_entry_points_run_as_files(method, capsys, monkeypatch):
    script = str(REPOSITORY / "trainers" / f"train_{method}.py")
    monkeypatch.setattr("sys.argv", [script, "--help"])
    with pytest.raises(SystemExit, match="0"):
        runpy.run_path(script, run_name="__main__")
    assert f"scripts/recipes/{method}_coco.yaml" in capsys.readouterr().out
