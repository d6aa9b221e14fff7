"""The page: one HTML file with its style, script, images and data inside, which needs no server and no network."""

import base64
import hashlib
import json
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from ..benchmarks import Benchmark
from ..columns import check_comparable, suites_of
from ..requests import build_benchmarks
from ..results import Results
from .galleries import Gallery, gallery_of, why_left_out
from .items import Answer, GalleryItem, Option
from .summary import changes, described, pictured, score_table
from .thumbnails import Thumbnails
from .titles import short_names, title_of
from .words import marked

FOLDER = files(__package__)
DECIMALS = range(3, 8)  # of a printed score: the fewest that keep different scores apart
COLOURS = 7  # of models, in style.css


def write_report(
    results: Sequence[Results],
    benchmarks: Sequence[str | Benchmark],
    path: str | Path,
    gallery_items: int = 240,
) -> None:
    """Write a page about an evaluation: scores, composition against recognition, and a gallery of items.

    The page is one HTML file that carries its images and needs no network. The gallery shows items with the choice of
    every model, and with more than one model what became of each item from the first model to the others.

    Example:

    ```python
    benchmarks = ["scenes_composition", "scenes_zero_shot"]
    models = ["openai/clip-vit-base-patch32", "runs/tuned"]
    results = [evaluate_model(load_model(name), load_processor(name), benchmarks, name=name) for name in models]
    write_report(results, benchmarks, "index.html")
    ```

    Args:
        results (sequence of `Results`): At least one, with different names; models after the first are compared with
            it. Items are shown where results have rows: `evaluate_model` returns them, `Results.from_json` does not.
        benchmarks (sequence of `str` or `Benchmark`): The benchmarks that the models were evaluated on, for their
            images; items of other benchmarks are not shown.
        path (`str` or `Path`): File to write, usually `index.html`.
        gallery_items (`int`): Greatest number of items that the gallery shows per benchmark, >= 1. They are chosen
            evenly over kinds and outcomes; counts on the page are of all items.

    Raises:
        ValueError: If there is no result, two have the same name, two scored a benchmark on different items, no model
            was evaluated on one of the benchmarks, rows belong to other items, or `gallery_items` is below 1.
    """
    check_comparable(results)
    if gallery_items < 1:
        raise ValueError(f"gallery_items {gallery_items}; must be at least 1")
    built = build_benchmarks(benchmarks)
    evaluated = dict.fromkeys(name for model in results for name in model.benchmarks)
    if strange := [benchmark.name for benchmark in built if benchmark.name not in evaluated]:
        raise ValueError(f"no model was evaluated on {', '.join(strange)}; there are {', '.join(evaluated)}")
    galleries = [gallery for each in built if (gallery := gallery_of(each, results, gallery_items))]
    page = _template().render(
        **described(results),
        tables=[score_table(results, suite) for suite in suites_of(results)],
        **pictured(results),
        changes=changes(results, galleries),
        left_out={title_of(results, name): reason for name, reason in why_left_out(results, built).items()},
        data=_embedded(_data(results, galleries)),
        has_items=bool(galleries),
        colours=[k % COLOURS for k in range(len(results))],
        style=Markup(_file("style.css")),
        **_script(),
    )
    Path(path).write_text(page, encoding="utf-8")


def _template() -> jinja2.Template:
    """Load the template; every text that it is given is escaped."""
    environment = jinja2.Environment(
        loader=jinja2.FunctionLoader(_file),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("template.html")


def _file(name: str) -> str:
    """Read a file of this folder."""
    return (FOLDER / name).read_text(encoding="utf-8")


def _script() -> dict[str, Markup | str]:
    """Return the script with its hash, the only one that the page allows to run."""
    script = _file("script.js")
    # As the browser hashes it: all that stands between the tags.
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return {"script": Markup(script), "script_hash": f"sha256-{digest}"}


def _embedded(data: Any) -> Markup:
    """Write data as JSON that can stand inside a script element: no text in it can end the element."""
    text = json.dumps(data, separators=(",", ":"), allow_nan=False)
    return Markup(text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026"))


def _data(results: Sequence[Results], galleries: Sequence[Gallery]) -> dict[str, Any]:
    """Collect what the script shows."""
    thumbnails = Thumbnails()
    shown = [
        {
            "name": gallery.name,
            "title": title_of(results, gallery.name),
            "models": gallery.models,
            "compared": gallery.compared,
            "outcomes": gallery.outcomes,
            "total": gallery.total,
            "counts": [[[*key, count] for key, count in counts.items()] for counts in gallery.counts],
            "items": [_item(item, thumbnails) for item in gallery.items],
        }
        for gallery in galleries
    ]
    images = [thumbnail._asdict() for thumbnail in thumbnails.made]
    return {"models": short_names(results), "benchmarks": shown, "images": images}


def _item(item: GalleryItem, thumbnails: Thumbnails) -> dict[str, Any]:
    """Turn an item into plain data."""
    return {
        "kind": item.kind,
        "name": item.name,
        "question": item.question,
        "verdicts": item.verdicts,
        "details": item.details,
        "panels": [
            {
                "image": None if panel.image is None else thumbnails.place(panel.image),
                "options": _options(panel.options, thumbnails),
            }
            for panel in item.panels
        ],
    }


def _options(options: Sequence[Option], thumbnails: Thumbnails) -> list[dict[str, Any]]:
    """Turn the options of a choice into plain data, with the words marked in which they differ."""
    pieces = marked([option.text for option in options], [option.true for option in options])
    scores = [answer.score for option in options for answer in option.answers if answer and answer.score is not None]
    decimals = _decimals(scores)
    return [
        {
            "pieces": own,
            "true": option.true,
            "image": None if option.image is None else thumbnails.place(option.image),
            "answers": [answer and _answer(answer, decimals) for answer in option.answers],
        }
        for own, option in zip(pieces, options, strict=True)
    ]


def _decimals(scores: Sequence[float]) -> int:
    """Return how many decimals keep different scores apart."""
    distinct = len(set(scores))
    return next((n for n in DECIMALS if len({f"{score:.{n}f}" for score in scores}) == distinct), DECIMALS[-1])


def _answer(answer: Answer, decimals: int) -> list[str | None]:
    """Print a score, and name its mark."""
    return [None if answer.score is None else f"{answer.score:.{decimals}f}", answer.mark]
