"""A recipe is a command line written down: flags beat it, it beats the defaults, and nothing in it is ignored."""

import dataclasses
import re
import runpy
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from launch import run_python
from transformers import HfArgumentParser

from compalign.trainers import CALArguments, CECLIPArguments, ComAlignArguments, DeGLAArguments, NegCLIPArguments
from compalign.trainers.launch.dual_encoders import DataArguments, ModelArguments
from compalign.trainers.launch.recipe import exit_status, parse_recipe

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


COMMAND_LINES = {
    "nothing": [],
    "numbers": ["--learning_rate", "3e-5", "--max_steps", "7"],
    "lists": ["--crop_scale", "0.5", "1.0"],
    "switches": ["--bf16", "--dataloader_drop_last", "false", "--load_best_model_at_end", "no"],
    "choices of ours": ["--negative_choice", "random"],
    "choices": ["--on_bad_row", "raise", "--lr_scheduler_type", "linear", "--save_strategy", "no"],
    "strings and unions": ["--report_to", "none", "--deepspeed", "", "--warmup_steps", "0.1", "--seed", "3"],
}


@pytest.mark.parametrize("line", COMMAND_LINES)
@pytest.mark.parametrize("kind", [NegCLIPArguments, CECLIPArguments, DeGLAArguments, ComAlignArguments, CALArguments])
def test_flags_mean_what_the_parser_of_transformers_makes_of_them(kind, line):
    words = ["--output_dir", "runs", "--use_cpu", *COMMAND_LINES[line]]
    unknown = {word[2:] for word in words if word.startswith("--")} - {item.name for item in dataclasses.fields(kind)}
    if unknown:
        pytest.skip(f"{kind.__name__} has no {', '.join(unknown)}")
    (ours,) = parse_recipe(kind, arguments=words)
    (theirs,) = HfArgumentParser(kind).parse_args_into_dataclasses(words, look_for_args_file=False)
    assert ours.to_dict() == theirs.to_dict()


@pytest.mark.parametrize(
    ("flags", "value"),
    [
        (["--chatty"], True),
        (["--no_chatty"], False),
        (["--no-chatty"], False),
        (["--chatty", "false"], False),
        ([], True),
    ],
)
def test_a_boolean_is_a_switch(flags, value):
    assert parse_recipe(Small, arguments=["--data", "here", *flags])[0].chatty is value


def test_a_flag_may_be_spelled_with_hyphens_and_its_value_keeps_them():
    @dataclass
    class Hyphens:
        image_size: int = field(default=1)
        name: str = field(default="")

    (found,) = parse_recipe(Hyphens, arguments=["--image-size", "8", "--name=two-words--here"])
    assert (found.image_size, found.name) == (8, "two-words--here")


def test_help_shows_our_flags_by_group_before_the_trainers_with_every_default(capsys):
    with pytest.raises(SystemExit, match="0"):
        parse_recipe(
            ModelArguments, DataArguments, DeGLAArguments, arguments=["--help"], command="compalign train degla"
        )
    printed = capsys.readouterr().out
    assert printed.startswith("usage: compalign train degla [--config recipe.yaml]")
    titles = [
        line.split(",")[0].rstrip(":")
        for line in printed.splitlines()
        if line and not line.startswith((" ", "usage", "--"))
    ]
    assert titles == ["model", "data", "method", "training", "output", "more of transformers.TrainingArguments"]
    ours, theirs = printed.split("more of transformers.TrainingArguments")
    for shown in (
        "--teacher_decay NUMBER",
        "[default: 0.9996]",
        "--negatives {dataset,rules}",
        "--[no_]dataloader_drop_last",
    ):
        assert shown in ours
    assert "--train TEXT" in ours
    assert "[required]" in ours
    assert "--neftune_noise_alpha" in theirs
    shown = set(re.findall(r"^  --(?:\[no_\])?(\w+)", printed, flags=re.MULTILINE))
    assert shown == {
        item.name
        for kind in (ModelArguments, DataArguments, DeGLAArguments)
        for item in dataclasses.fields(kind)
        if item.init and item.name != "resume_from_checkpoint"  # `resume` stands in its place
    }


def test_ours_come_alone_where_nothing_is_trained(capsys):
    with pytest.raises(SystemExit, match="0"):
        parse_recipe(Small, arguments=["-h"], description="First.")
    printed = capsys.readouterr().out
    assert "what to do:" in printed
    assert "transformers" not in printed
    assert re.search(r"--\[no_\]chatty +\[on by default\]", printed)


@pytest.mark.parametrize("error", [ValueError("batch is 0"), FileNotFoundError("no recipe"), ConnectionError("no Hub")])
def test_an_error_that_a_user_can_mend_is_one_line(error, capsys):
    def run():
        raise error

    assert exit_status("train_degla.py", run) == 2
    assert capsys.readouterr().err == f"train_degla.py: {error}\n"
    assert exit_status("train_degla.py", lambda: None) == 0


def test_an_interruption_is_no_traceback(capsys):
    def run():
        raise KeyboardInterrupt

    assert exit_status("train_degla.py", run) == 130
    assert capsys.readouterr().err == "train_degla.py: interrupted\n"


@pytest.mark.parametrize("method", ["negclip", "ceclip", "degla", "comalign", "cal"])
def test_a_door_ends_a_users_error_with_one_line(method):
    done = run_python(f"trainers/train_{method}.py", "--no_such_flag", "1")
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].startswith(f"train_{method}.py: command line: unknown key 'no_such_flag'")
    assert "Traceback" not in done.stderr
