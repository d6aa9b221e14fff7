"""Negative captions by rule: choose among what the rules propose."""

import random
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from ..caption_hygiene import normalised
from .analysis import Analysis
from .lexicon import load_lexicon
from .rules import RULES
from .tagging import TextBlobTagger, Token

DEFAULT_KINDS = tuple(kind for kind in RULES if kind != "reorder")
CECLIP_KINDS = ("swap_object", "replace_attribute", "replace_object", "replace_action")


@dataclass(frozen=True)
class Negative:
    """A caption that is close to a true one and meant to be false.

    Args:
        text (`str`): The negative caption.
        kind (`str`): What was changed: `"swap_object"`, `"swap_attribute"`, `"replace_object"`, `"replace_attribute"`,
            `"replace_relation"`, `"replace_action"` (which SugarCrepe counts among the relations) or `"reorder"`.
        source (`str`): Who made it, `"rules"` here.
    """

    text: str
    kind: str
    source: str = "rules"


class NegativeGenerator:
    """Make negative captions from English captions by rule, offline.

    What a caption gets depends on the seed and the caption alone, so batches, processes and orders agree. A rule
    proposes only what its word lists make false; where few rules apply, a caption gets fewer negatives, or none.

    Args:
        kinds (`Sequence[str]`): Kinds to choose from. `"reorder"` is accepted but not among the defaults: its results
            are mostly ungrammatical, so a model can reject them without an image.
        num_negatives (`int`): Most negatives per caption, >= 1.
        seed (`int`): Chooses among the candidates.
        tagger (`Callable[[str], list[Token]]`, *optional*): Part-of-speech tagger. Defaults to [`TextBlobTagger`],
            which needs no download; [`SpacyTagger`] wraps a spaCy pipeline.

    Raises:
        ValueError: If a kind is unknown, there is none, or `num_negatives` is below 1.

    Example:

        >>> generator = NegativeGenerator(kinds=["swap_object"])
        >>> generator.propose(["A dog chases a cat."])
        [[Negative(text='A cat chases a dog.', kind='swap_object', source='rules')]]
    """

    def __init__(
        self,
        kinds: Sequence[str] = DEFAULT_KINDS,
        num_negatives: int = 4,
        seed: int = 0,
        tagger: Callable[[str], list[Token]] | None = None,
    ):
        unknown = sorted(set(kinds) - set(RULES))
        if unknown or not kinds:
            raise ValueError(f"kinds must be some of {', '.join(RULES)}, got {unknown or list(kinds)}")
        if num_negatives < 1:
            raise ValueError(f"num_negatives must be at least 1, got {num_negatives}")
        self.kinds = tuple(kinds)
        self.num_negatives = num_negatives
        self.seed = seed
        self.lexicon = load_lexicon()
        self.tagger = tagger or TextBlobTagger()

    def propose(self, captions: Sequence[str]) -> list[list[Negative]]:
        """Make the negatives of each caption, of as many kinds as possible.

        Args:
            captions (`Sequence[str]`): True captions.

        Returns:
            `list[list[Negative]]`: For each caption 0 to `num_negatives` distinct negatives; no kind comes a second
            time before every kind that applies has come once.

        Raises:
            ValueError: If a caption is not a string.
        """
        return [self._propose(caption) for caption in checked(captions)]

    def propose_typed(self, captions: Sequence[str]) -> list[list[Negative | None]]:
        """Make CE-CLIP's four typed negatives: relation (a swap), adjective, noun, verb.

        Args:
            captions (`Sequence[str]`): True captions.

        Returns:
            `list[list[Negative | None]]`: For each caption one entry per kind of `CECLIP_KINDS`, in that order; `None`,
            an invalid slot, where the rule does not apply. The kinds given to the constructor play no part.

        Raises:
            ValueError: If a caption is not a string.

        Reference:
            CE-CLIP, https://huggingface.co/papers/2306.08832. The released data fills a slot without such a word with
            whatever a language model puts for a bare mask; here it stays empty.
        """
        rows = []
        for caption in checked(captions):
            candidates = self._candidates(caption, CECLIP_KINDS)
            rows.append([candidates[kind][0] if candidates[kind] else None for kind in CECLIP_KINDS])
        return rows

    def _propose(self, caption: str) -> list[Negative]:
        """One candidate of every kind, then a second one of every kind, and so on, until there are enough."""
        queues = list(self._candidates(caption, self.kinds).values())
        random.Random(f"{self.seed} kinds {caption}").shuffle(queues)
        longest = max(map(len, queues))
        ranked = [queue[rank] for rank in range(longest) for queue in queues if rank < len(queue)]
        return ranked[: self.num_negatives]

    def _candidates(self, caption: str, kinds: Iterable[str]) -> dict[str, list[Negative]]:
        """The distinct candidates of each kind in random order; none equals the caption or another candidate."""
        analysis = Analysis(caption, self.tagger(caption), self.lexicon)
        seen = {"", normalised(caption)}
        candidates = {}
        for kind in kinds:
            candidates[kind] = []
            for text in RULES[kind](analysis):
                words = normalised(text)
                if words not in seen and " " in words:
                    seen.add(words)
                    candidates[kind].append(Negative(text, kind))
            random.Random(f"{self.seed} {kind} {caption}").shuffle(candidates[kind])
        return candidates


def checked(captions: Sequence[str]) -> Sequence[str]:
    """The captions, if they are a sequence of strings."""
    if isinstance(captions, str):
        raise ValueError(f"captions must be a sequence of strings, got the string {captions!r}")
    for row, caption in enumerate(captions):
        if not isinstance(caption, str):
            raise ValueError(f"captions must be strings, got {caption!r} at row {row}")
    return captions


def coverage(proposals: Sequence[Sequence[Negative | None]]) -> dict:
    """Count what a generator proposed.

    Args:
        proposals (`Sequence[Sequence[Negative | None]]`): What `propose` or `propose_typed` returned.

    Returns:
        `dict`: `captions` and `negatives` (counts), `without` (captions that got none), `sizes` (number of negatives ->
        captions that got so many) and `kinds` (kind -> captions that got at least one of it).
    """
    rows = [[negative for negative in row if negative is not None] for row in proposals]
    kinds = Counter(kind for row in rows for kind in {negative.kind for negative in row})
    return {
        "captions": len(rows),
        "negatives": sum(map(len, rows)),
        "without": sum(not row for row in rows),
        "sizes": dict(sorted(Counter(map(len, rows)).items())),
        "kinds": dict(sorted(kinds.items())),
    }


def prepare(dataset, propose: Callable[[Sequence[str]], list[list[Negative | None]]]):
    """Add negative captions to a dataset of captions.

    Args:
        dataset (`datasets.Dataset`): Rows with a column `caption`.
        propose (`Callable`): `generator.propose`, or `generator.propose_typed` for one column per type.

    Returns:
        `datasets.Dataset`: The same rows with `negative_captions` (`list[str]`, an empty string in an invalid slot) and
        `negative_mask` (`list[int]`, 0 in an invalid slot).

    Raises:
        ValueError: If there is no column `caption`.
    """
    if "caption" not in dataset.column_names:
        raise ValueError(f"the dataset needs a column 'caption', it has {dataset.column_names}")

    def add(batch: dict) -> dict:
        rows = propose(batch["caption"])
        return {
            "negative_captions": [[negative.text if negative else "" for negative in row] for row in rows],
            "negative_mask": [[int(negative is not None) for negative in row] for row in rows],
        }

    return dataset.map(add, batched=True)
