"""Writing a model card: facts of the method from YAML, numbers from evaluation results, settings from the recipe."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from importlib.resources import files
from pathlib import Path, PureWindowsPath
from typing import Any

import jinja2
import yaml
from huggingface_hub import EvalResult, ModelCardData
from huggingface_hub.utils import validate_repo_id

from ..evaluation.benchmarks.scene_questions import SceneQuestions
from ..evaluation.report import table
from ..evaluation.results import BenchmarkResult, Results, Score

FOLDER = files(__package__)
# A card is public and a recipe holds paths, names and tokens: it shows these and the method's arguments, nothing else.
SHOWN_ARGUMENTS = (
    "num_train_epochs",
    "max_steps",
    "per_device_train_batch_size",
    "world_size",
    "gradient_accumulation_steps",
    "learning_rate",
    "lr_scheduler_type",
    "warmup_steps",
    "weight_decay",
    "adam_beta1",
    "adam_beta2",
    "adam_epsilon",
    "max_grad_norm",
    "bf16",
    "fp16",
    "seed",
    "crop_scale",
    "negatives",
    "num_negatives",
    "negative_choice",
)


def write_card(
    folder: str | Path, method: str, results: Results | Sequence[Results], recipe: Mapping[str, Any], **card: Any
) -> None:
    """Write a model's card as `README.md` beside its weights, over any that is there.

    Args:
        folder (`str` or `Path`): Folder of the weights.
        method, results, recipe, card: As in `render_card`.
    """
    Path(folder, "README.md").write_text(render_card(method, results, recipe, **card), encoding="utf-8")


def render_card(
    method: str,
    results: Results | Sequence[Results],
    recipe: Mapping[str, Any],
    base_results: Results | None = None,
    model_id: str | None = None,
    base_model: str | None = None,
    datasets: Sequence[str] = (),
    data: str | None = None,
    chart: str | None = None,
    language: str | None = None,
    limits: Sequence[str] = (),
) -> str:
    """Render the card of a trained model.

    Paths are shown by their last part only, and recipes by the arguments that say how the model was trained.

    Args:
        method (`str`): `"base"`, `"negclip"`, `"ceclip"`, `"degla"`, `"comalign"` or `"cal"`.
        results (`Results`, or sequence of `Results`): This model's, followed by those of models to print beside it.
        recipe (mapping of `str` to values): Training arguments that were set, as in a YAML recipe or in
            `args.to_dict()`.
        base_results (`Results`, *optional*): Results of the model that training started from, on the same benchmarks.
        model_id (`str`, *optional*): Hub id of this model. Default: the usage snippet loads the current folder.
        base_model (`str`, *optional*): Hub id of the model that training started from.
        datasets (sequence of `str`): Hub ids of the training data.
        data (`str`, *optional*): A sentence about the training data.
        chart (`str`, *optional*): File name of a chart of the scores beside the card. It is shown on top.
        language (`str`, *optional*): Language of the captions, as an ISO 639-1 code such as `"en"`.
        limits (sequence of `str`): Sentences about limits of this model, before those of its method.

    Returns:
        `str`: Markdown with a YAML header, ready to be a `README.md`.

    Raises:
        ValueError: If the method is unknown, a Hub id is not valid, or the results do not fit in one table.

    Reference:
        https://huggingface.co/docs/hub/model-cards
    """
    facts = read_facts(method)
    for hub_id in filter(None, (model_id, base_model, *datasets)):
        validate_repo_id(hub_id)
    own, *beside = map(_without_path, [results] if isinstance(results, Results) else results)
    if model_id is not None:
        own = replace(own, model=model_id.split("/")[-1])
    base = None if base_results is None else _without_path(base_results)
    metadata = ModelCardData(
        language=language,
        license=facts["license"],
        library_name="transformers",
        pipeline_tag=facts["pipeline_tag"],
        tags=facts["tags"],
        base_model=base_model,
        datasets=list(datasets) or None,
        model_name=own.model,
        eval_results=eval_results(own, facts["pipeline_tag"]),
    )
    scores = _score_rows(own, base)
    return _template().render(
        metadata=metadata.to_yaml(),
        facts=facts,
        results=own,
        has_base=base is not None,
        source=model_id or ".",
        trust=", trust_remote_code=True" if facts["remote_code"] else "",
        base_model=base_model,
        datasets=datasets,
        data=data,
        chart=chart,
        limits=[*limits, *facts["limits"]],
        table=table([own, *beside] if base is None else [base, own, *beside]),
        scores=scores,
        abilities={ability for ability, *_ in scores[1:]},
        recipe=_recipe_rows(facts, recipe),
    )


def read_facts(method: str) -> dict[str, Any]:
    """Read what a card says about a method.

    Args:
        method (`str`): Name of a YAML file in this folder, without its extension.

    Returns:
        `dict`: the facts. They hold no measurements.

    Raises:
        ValueError: If there is no such file.
    """
    methods = sorted(file.name.removesuffix(".yaml") for file in FOLDER.iterdir() if file.name.endswith(".yaml"))
    if method not in methods:
        raise ValueError(f"there is no card for the method {method!r}; accepted: {', '.join(methods)}")
    return yaml.safe_load((FOLDER / f"{method}.yaml").read_text(encoding="utf-8"))


def _template() -> jinja2.Template:
    """The template. A missing value is an error, not a gap."""
    environment = jinja2.Environment(
        loader=jinja2.FunctionLoader(lambda name: (FOLDER / name).read_text(encoding="utf-8")),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["plain"] = _plain
    return environment.get_template("template.md")


def _without_path(results: Results) -> Results:
    """Name a model by the last part of its Hub id or folder: a card shows no folder of the author's machine."""
    return replace(results, model=PureWindowsPath(results.model).name or results.model)


def shown_scores(results: Results) -> dict[tuple[str, str], Score]:
    """The scores that tables show, by benchmark and name."""
    return {
        (benchmark, name): score
        for benchmark, result in results.benchmarks.items()
        for name in result.columns
        if (score := result.headline(name)) is not None
    }


def eval_results(results: Results, task: str = "zero-shot-image-classification") -> list[EvalResult]:
    """The scores that tables show, as the Hub's evaluation metadata for a task."""
    return [
        EvalResult(
            task_type=task,
            dataset_type=benchmark,
            dataset_name=f"{results.benchmarks[benchmark].suite} ({benchmark})",
            dataset_revision=results.benchmarks[benchmark].content_hash,
            metric_type="recall" if "recall" in name else "accuracy",
            metric_name=results.benchmarks[benchmark].columns[name],
            metric_value=float(score.value),  # a NumPy scalar would become a Python tag in YAML
        )
        for (benchmark, name), score in shown_scores(results).items()
    ]


def _score_rows(own: Results, base: Results | None) -> list[list[str]]:
    """A table with one row per score, with its interval, beside the base model's if there is one."""
    models = [own] if base is None else [base, own]
    header = ["ability", "benchmark", "score", *(model.model for model in models)]
    rows = [header if base is None else [*header, "change"]]
    for benchmark, name in shown_scores(own):
        compared = [shown_scores(model).get((benchmark, name)) for model in models]
        result = own.benchmarks[benchmark]
        row = [_ability(benchmark, result), benchmark, result.columns[name], *map(interval, compared)]
        rows.append(row if base is None else [*row, _change(*compared)])
    return rows


def _ability(benchmark: str, result: BenchmarkResult) -> str:
    """The ability that a benchmark tests; questions with an answer are described apart on a card."""
    return "answers" if benchmark == SceneQuestions.name else result.ability


def _recipe_rows(facts: Mapping[str, Any], recipe: Mapping[str, Any]) -> list[list[str]]:
    """A table of the arguments that were set and that a card may show."""
    weights = [term["weight"] for term in facts["terms"] if "weight" in term]
    length = {"num_train_epochs", "max_steps"} - {"max_steps" if recipe.get("max_steps", 0) > 0 else "num_train_epochs"}
    names = (*SHOWN_ARGUMENTS, *weights, *facts["arguments"])
    shown = [name for name in names if name in recipe and name not in length]
    return [["argument", "value"], *([f"`{name}`", _plain(recipe[name])] for name in shown)]


def interval(score: Score | None) -> str:
    """Print a score with its interval, in percent."""
    if score is None:
        return "-"
    low, high = score.interval
    return f"{100 * score.value:.1f} ({100 * low:.1f} to {100 * high:.1f})"


def _change(before: Score | None, after: Score | None) -> str:
    """Print the change of a score, in points."""
    if before is None or after is None:
        return "-"
    return f"{round(100 * (after.value - before.value), 1) + 0.0:+.1f}"  # adding 0.0 makes -0.0 positive


def _plain(value: Any) -> str:
    """Print a setting as in JSON, a string without quotes."""
    return json.dumps(value).strip('"')
