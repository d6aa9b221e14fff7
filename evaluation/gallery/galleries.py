"""The gallery of a benchmark: the outcome of every item, and the items to show."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from ..benchmarks import Benchmark
from ..results import Results
from .items import CHANGES, VERDICTS, GalleryItem, outcomes
from .readers import reader_of
from .selection import choose


@dataclass(frozen=True)
class Gallery:
    """A benchmark in the gallery.

    Args:
        name (`str`): Name of the benchmark.
        models (sequence of `int`): Positions of the models that were evaluated on it. Others are compared with the
            first of them.
        counts (sequence of `Counter`): For each model after the first, or for one that stands alone: the number of
            items by kind and outcome, over all items.
        items (sequence of `GalleryItem`): The items to show, with answers of `models` in their order.
        total (`int`): Number of items of the benchmark.
    """

    name: str
    models: Sequence[int]
    counts: Sequence[Counter[tuple[str, str]]]
    items: Sequence[GalleryItem]
    total: int

    @property
    def compared(self) -> Sequence[int]:
        """Positions of the models with outcomes: those after the first, or the only one."""
        return self.models[1:] or self.models

    @property
    def outcomes(self) -> Sequence[str]:
        """Names of the possible outcomes."""
        return CHANGES if len(self.models) > 1 else VERDICTS


def gallery_of(benchmark: Benchmark, results: Sequence[Results], count: int) -> Gallery | None:
    """Join the rows of several models into the gallery of a benchmark.

    Args:
        benchmark (`Benchmark`): The benchmark that the models were evaluated on.
        results (sequence of `Results`): Results with rows.
        count (`int`): Greatest number of items to show.

    Returns:
        `Gallery`, or `None` if the items are not single choices or no result has rows of them.

    Raises:
        ValueError: If the rows of a model are not those of the benchmark's items.
    """
    reader = reader_of(benchmark)
    evaluated = [benchmark.name in model.benchmarks for model in results]
    models = [k for k, has in enumerate(evaluated) if has and results[k].benchmarks[benchmark.name].rows]
    if reader is None or not models:
        return None
    rows = [results[k].benchmarks[benchmark.name].rows for k in models]
    for k, own in zip(models, rows, strict=True):
        if not reader.fits(own):
            raise ValueError(
                f"{benchmark.name}: the {len(own)} rows of {results[k].model} do not belong to the {benchmark.n_found} "
                "items of the benchmark; give the benchmark that the model was evaluated on"
            )
    of_items = list(zip(*rows, strict=True))
    kinds = [reader.kind(of_item[0]) for of_item in of_items]
    found = [tuple(outcomes([reader.verdict(row) for row in of_item])) for of_item in of_items]
    names = [reader.name(place, of_item[0]) for place, of_item in enumerate(of_items)]
    return Gallery(
        name=benchmark.name,
        models=models,
        counts=[Counter(zip(kinds, column, strict=True)) for column in zip(*found, strict=True)],
        items=[reader.item(place, of_items[place]) for place in choose(kinds, found, names, count)],
        total=len(of_items),
    )


def why_left_out(results: Sequence[Results], benchmarks: Sequence[Benchmark]) -> dict[str, str]:
    """Say why the gallery leaves out some of the benchmarks that models were evaluated on.

    Args:
        results (sequence of `Results`): Results of the models.
        benchmarks (sequence of `Benchmark`): Benchmarks at hand.

    Returns:
        `dict[str, str]`: the reason for each benchmark that is left out, by its name.
    """
    at_hand = {benchmark.name: benchmark for benchmark in benchmarks}
    reasons = {}
    for name in dict.fromkeys(name for model in results for name in model.benchmarks):
        if name not in at_hand:
            reasons[name] = "its images were not given to the report"
        elif reader_of(at_hand[name]) is None:
            reasons[name] = "it ranks all captions and all images, so its items are not single choices"
        elif not any(model.benchmarks[name].rows for model in results if name in model.benchmarks):
            reasons[name] = "the results have no scores of single items"
    return reasons
