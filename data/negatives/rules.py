"""Rules for negative captions. Each rule takes a caption and yields every change of it that the rule allows.

Rules work on tokens and their offsets, never on substrings. They propose only captions that should be false of every
image of which the given caption is true. The proposals depend only on the caption.
"""

import random
from collections.abc import Callable, Iterator
from itertools import combinations, pairwise

from .analysis import Analysis, Phrase
from .lexicon import Alternative, Family


def swap_object(caption: Analysis) -> Iterator[str]:
    """Exchange two noun phrases across a relation that has a direction ("A horse rides a man")."""
    phrases = [phrase for phrase in caption.phrases if movable(caption, phrase)]
    for first, second in combinations(phrases, 2):
        same_head = caption.words[first.head] == caption.words[second.head]
        if not same_head and interchangeable(caption, first, second) and directed(caption, second):
            yield caption.edit(
                {
                    (first.start, first.end): caption.spelling(second.start, second.end),
                    (second.start, second.end): caption.spelling(first.start, first.end),
                }
            )


def swap_attribute(caption: Analysis) -> Iterator[str]:
    """Exchange the attributes of two nouns, where each attribute can describe the other noun."""
    alternatives = caption.lexicon.attributes.alternatives
    described = [
        (index, phrase)
        for phrase in caption.phrases
        for index in range(phrase.start, phrase.head)
        if caption.tag(index) == "ADJ" and caption.words[index] in alternatives
    ]
    for (first, noun), (second, other) in combinations(described, 2):
        one, two = caption.words[first], caption.words[second]
        synonyms = alternatives[one] == alternatives[two]
        same_noun = caption.words[noun.head] == caption.words[other.head]
        exchange = describes(caption, one, other, second) and describes(caption, two, noun, first)
        if exchange and not synonyms and not same_noun:
            yield caption.edit({(first, first + 1): two, (second, second + 1): one})


def replace_object(caption: Analysis) -> Iterator[str]:
    """Replace the head of a noun phrase by another noun of its kind ("a cat" for "a dog")."""
    for phrase in caption.phrases:
        compound = phrase.head > phrase.start and caption.tag(phrase.head - 1) == "NOUN"
        if not compound and caption.words[phrase.end : phrase.end + 1] != ["of"]:
            number = "plural" if caption.is_plural(phrase) else "singular"
            yield from replaced(caption, caption.lexicon.objects, phrase.head, None, {number, ""})


def replace_attribute(caption: Analysis) -> Iterator[str]:
    """Replace an attribute before a noun by one that excludes it ("a blue bus" for "a red bus")."""
    for phrase in caption.phrases:
        for index in range(phrase.start, phrase.head):
            yield from replaced(caption, caption.lexicon.attributes, index, phrase, {""})


def replace_relation(caption: Analysis) -> Iterator[str]:
    """Replace a preposition by a relation that excludes it ("under a bench" for "on a bench")."""
    for phrase in caption.phrases:
        if phrase.start and caption.tag(phrase.start - 1) == "ADP":
            yield from replaced(caption, caption.lexicon.relations, phrase.start - 1, phrase, {""})


def replace_action(caption: Analysis) -> Iterator[str]:
    """Replace a verb by one that excludes it, in the same form ("standing" for "sitting")."""
    actors = [phrase for phrase in caption.phrases if caption.category(phrase) != "clothes"]
    for index in range(len(caption.tokens)):
        subjects = [phrase for phrase in actors if phrase.end <= index]
        if caption.tag(index) == "VERB" and subjects:
            forms = {"base", "third", "progressive", ""}
            yield from replaced(caption, caption.lexicon.actions, index, subjects[-1], forms)


def reorder(caption: Analysis) -> Iterator[str]:
    """Shuffle the noun phrases and the words between them.

    Most results are ungrammatical, so a model can reject them by the text alone, without the image.
    """
    length = len(caption.tokens)
    closing = length - (length > 0 and caption.tag(length - 1) == "END")
    cuts = {0, closing, *(cut for phrase in caption.phrases for cut in (phrase.start, phrase.end))}
    chunks = list(pairwise(sorted(cuts)))
    generator = random.Random(caption.text)
    for _ in range(4 if len(chunks) > 2 else 0):
        order = generator.sample(chunks, len(chunks))
        yield caption.edit({(0, closing): " ".join(caption.spelling(first, end) for first, end in order)})


def replaced(caption: Analysis, family: Family, index: int, noun: Phrase | None, forms: set[str]) -> Iterator[str]:
    """Yield the caption with the token at `index` replaced by each alternative that its context allows."""
    readings = family.readings.get(caption.words[index], ())
    elsewhere = caption.elsewhere(index) if readings else set()
    for lemma, form in readings:
        for alternative in family.alternatives.get(lemma, ()) if form in forms else ():
            if suits(caption, index, noun, alternative) and not alternative.rivals & elsewhere:
                yield caption.edit({(index, index + 1): family.inflect(alternative.word, form)})


def suits(caption: Analysis, index: int, noun: Phrase | None, alternative: Alternative) -> bool:
    """Return whether an alternative for the token at `index` fits its noun and the next token."""
    if alternative.of is not None and (noun is None or caption.category(noun) not in alternative.of):
        return False
    following = {caption.tag(index + 1), *caption.words[index + 1 : index + 2]}
    return alternative.before is None or not alternative.before.isdisjoint(following)


def movable(caption: Analysis, phrase: Phrase) -> bool:
    """Return whether a noun phrase can move to another place in the sentence."""
    words = caption.lexicon.words
    bound = words["unmovable"] | words["possessives"]
    around = caption.words[max(phrase.start - 1, 0) : phrase.start] + caption.words[phrase.end : phrase.end + 1]
    continued = "of" in around or not words["possessives"].isdisjoint(around)
    if continued or not bound.isdisjoint(caption.words[phrase.start : phrase.end]):
        return False
    head = caption.words[phrase.head]
    return head not in words["light"] and (head in caption.lexicon.objects.readings or caption.is_determined(phrase))


def interchangeable(caption: Analysis, first: Phrase, second: Phrase) -> bool:
    """Return whether the sentence stays grammatical if two phrases change places."""
    bare = [not caption.is_determined(phrase) and not caption.is_plural(phrase) for phrase in (first, second)]
    measured = "of" in caption.words[first.start : first.end] + caption.words[second.start : second.end]
    agree = caption.is_plural(first) == caption.is_plural(second) and not measured
    return bare[0] == bare[1] and (agree or not has_finite_verb(caption))


def has_finite_verb(caption: Analysis) -> bool:
    """Return whether any verb could agree with its subject in number."""
    return any(
        token.tag == "VERB" and not word.endswith(("ing", "ed"))
        for token, word in zip(caption.tokens, caption.words, strict=True)
    )


def directed(caption: Analysis, phrase: Phrase) -> bool:
    """Return whether the relation of a phrase to the one before it changes meaning if the two change places."""
    before = max(other.end for other in caption.phrases if other.end <= phrase.start)
    link = range(before, phrase.start)
    for tag in ("ADP", "VERB"):
        words = [caption.words[index] for index in link if caption.tag(index) == tag]
        if words:
            last = {words[-1], caption.lexicon.actions.lemma(words[-1])}
            return last.isdisjoint(caption.lexicon.words["symmetric"])
    return False


def describes(caption: Analysis, attribute: str, noun: Phrase, index: int) -> bool:
    """Return whether an attribute fits a noun that has no other one of its category, besides the token at `index`."""
    family = caption.lexicon.attributes
    known = any(caption.category(noun) in (rival.of or ()) for rival in family.alternatives[attribute])
    others = [family.categories.get(caption.words[other]) for other in range(noun.start, noun.head) if other != index]
    return known and (not family.categories[attribute] or family.categories[attribute] not in others)


RULES: dict[str, Callable[[Analysis], Iterator[str]]] = {
    "swap_object": swap_object,
    "swap_attribute": swap_attribute,
    "replace_object": replace_object,
    "replace_attribute": replace_attribute,
    "replace_relation": replace_relation,
    "replace_action": replace_action,
    "reorder": reorder,
}
