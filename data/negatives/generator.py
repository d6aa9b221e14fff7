"""Generator of negative captions: chooses among the proposals of the rules."""

import random
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from ..readers.hygiene import normalised
from .analysis import Analysis
from .lexicon import load_lexicon
from .rules import RULES
from .tagging import TextBlobTagger, Token

DEFAULT_KINDS = tuple(kind for kind in RULES if kind != "reorder")
CECLIP_KINDS = ("swap_object", "replace_attribute", "replace_object", "replace_action")


@dataclass(frozen=True)
class Negative:
    """A caption that is close to a true one but should be false.

    Args:
        text (`str`): The negative caption.
        kind (`str`): Kind of the change: `"swap_object"`, `"swap_attribute"`, `"replace_object"`,
            `"replace_attribute"`, `"replace_relation"`, `"replace_action"` (which SugarCrepe counts among the
            relations) or `"reorder"`.
        source (`str`): Origin of the negative, `"rules"` for this generator.
    """

    text: str
    kind: str
    source: str = "rules"


class NegativeGenerator:
    """Generator of negative captions for English captions, by rule and offline.

    The negatives of a caption depend only on the seed and the caption, not on its batch, process or position. A rule
    proposes only changes that its word lists make false. If few rules apply, a caption has fewer negatives, or none.

    Args:
        kinds (`Sequence[str]`): Kinds to choose from. `"reorder"` is not among the defaults: its results are mostly
            ungrammatical, so a model can reject them without an image.
        num_negatives (`int`): Largest number of negatives per caption, >= 1.
        seed (`int`): Seed of the choice among the candidates.
        tagger (`Callable[[str], list[Token]]`, *optional*): Part-of-speech tagger. Default: [`TextBlobTagger`], which
            needs no download. [`SpacyTagger`] uses a spaCy pipeline.

    Raises:
        ValueError: If `kinds` is empty or has an unknown kind, or `num_negatives` is below 1.

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
            `list[list[Negative]]`: For each caption 0 to `num_negatives` distinct negatives. No kind is repeated before
            every kind that applies has been used.

        Raises:
            ValueError: If a caption is not a string.
        """
        return [self._propose(caption) for caption in checked(captions)]

    def propose_typed(self, captions: Sequence[str]) -> list[list[Negative | None]]:
        """Make CE-CLIP's four typed negatives: relation (a swap), adjective, noun, verb.

        Args:
            captions (`Sequence[str]`): True captions.

        Returns:
            `list[list[Negative | None]]`: For each caption one entry per kind of `CECLIP_KINDS`, in that order. None
            marks an invalid slot, to which the rule does not apply. The `kinds` of the generator are not used.

        Raises:
            ValueError: If a caption is not a string.

        Reference:
            CE-CLIP, https://huggingface.co/papers/2306.08832. If a caption has no word of a type, the released data
            fills the slot with a language model's guess for a bare mask. Here the slot stays empty.
        """
        rows = []
        for caption in checked(captions):
            candidates = self._candidates(caption, CECLIP_KINDS)
            rows.append([candidates[kind][0] if candidates[kind] else None for kind in CECLIP_KINDS])
        return rows

    def _propose(self, caption: str) -> list[Negative]:
        """Take one candidate of every kind, then a second one of every kind, and so on, until there are enough."""
        queues = list(self._candidates(caption, self.kinds).values())
        random.Random(f"{self.seed} kinds {caption}").shuffle(queues)
        longest = max(map(len, queues))
        ranked = [queue[rank] for rank in range(longest) for queue in queues if rank < len(queue)]
        return ranked[: self.num_negatives]

    def _candidates(self, caption: str, kinds: Iterable[str]) -> dict[str, list[Negative]]:
        """Return the candidates of each kind in random order. All differ from the caption and from each other."""
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
    """Return captions, or raise a `ValueError` if they are not a sequence of strings."""
    if isinstance(captions, str):
        raise ValueError(f"captions must be a sequence of strings, got the string {captions!r}")
    for row, caption in enumerate(captions):
        if not isinstance(caption, str):
            raise ValueError(f"captions must be strings, got {caption!r} at row {row}")
    return captions


def coverage(proposals: Sequence[Sequence[Negative | None]]) -> dict:
    """Count the negatives that a generator proposed.

    Args:
        proposals (`Sequence[Sequence[Negative | None]]`): Result of `propose` or `propose_typed`.

    Returns:
        `dict`: `captions` and `negatives` (total counts), `without` (captions without negatives), `sizes` (captions per
        number of negatives) and `kinds` (captions per kind that has at least one negative).

    Example:

        >>> coverage(NegativeGenerator(num_negatives=2).propose(["A dog chases a cat.", "Hello."]))
        {'captions': 2, 'negatives': 2, 'without': 1, 'sizes': {0: 1, 2: 1},
         'kinds': {'replace_action': 1, 'swap_object': 1}}
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
        propose (`Callable`): `generator.propose`, or `generator.propose_typed` for one slot per type.

    Returns:
        `datasets.Dataset`: The same rows with `negative_captions` (`list[str]`, "" in an invalid slot) and
        `negative_mask` (`list[int]`, 0 in an invalid slot).

    Raises:
        ValueError: If there is no column `caption`.
    """
    if "caption" not in dataset.column_names:
        raise ValueError(f"the dataset has no column 'caption'; its columns are {dataset.column_names}")

    def add(batch: dict) -> dict:
        rows = propose(batch["caption"])
        return {
            "negative_captions": [[negative.text if negative else "" for negative in row] for row in rows],
            "negative_mask": [[int(negative is not None) for negative in row] for row in rows],
        }

    return dataset.map(add, batched=True)
