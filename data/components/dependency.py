"""The components of a caption by a dependency parse, where a spaCy pipeline is installed."""

from collections.abc import Iterator
from typing import Any

from ..negatives.tagging import load_spacy
from .rows import CaptionComponents
from .text import NO_THINGS

SUBJECTS = ("nsubj", "nsubjpass", "nsubj:pass")
OBJECTS = ("dobj", "obj", "attr")
FOLLOWERS = ("conj", "advcl", "xcomp")
CLAUSES = ("acl", "relcl", "acl:relcl")


class SpacyParser:
    """Noun chunks and the arcs between their heads: prepositions, verbs with their objects, joined phrases.

    Args:
        pipeline (`str`): Name or path of an English pipeline with a parser, e.g. `"en_core_web_sm"`.

    Raises:
        ImportError: If spaCy is missing.
        ValueError: If the pipeline is not installed, or has no parser.
    """

    def __init__(self, pipeline: str = "en_core_web_sm"):
        self.pipeline = load_spacy(pipeline)
        if "parser" not in self.pipeline.pipe_names:
            raise ValueError(f"the spaCy pipeline {pipeline!r} has no parser; it has {self.pipeline.pipe_names}")
        self.settings = {"kind": "spacy", "pipeline": pipeline, "version": self.pipeline.meta["version"]}

    def __call__(self, caption: str) -> CaptionComponents:
        """Take one caption apart; see [`ChunkParser`]."""
        document = self.pipeline(caption)
        chunks = {chunk.root.i: chunk for chunk in document.noun_chunks if chunk.root.pos_ in {"NOUN", "PROPN"}}
        things = {index: chunk for index, chunk in chunks.items() if is_thing(chunk)}
        found = {
            (subject, target): link
            for head in things
            for subject, link, target in relations_of(document[head])
            if subject in things and target in things
        }
        relations = [
            f"{bare(things[subject])} {link} {spelled(things[target])}"
            for (subject, target), link in sorted(found.items())
        ]
        entities = [bare(chunk) for _, chunk in sorted(things.items())]
        return CaptionComponents(caption, list(dict.fromkeys(entities)), list(dict.fromkeys(relations)))


def is_thing(chunk: Any) -> bool:
    """Whether a noun chunk names something to be seen."""
    compound = any(child.dep_ == "compound" for child in chunk.root.children)
    return compound or chunk.root.lower_ not in NO_THINGS


def spelled(tokens: Any) -> str:
    """Tokens in small letters, with single spaces."""
    return " ".join(token.lower_ for token in tokens)


def bare(chunk: Any) -> str:
    """A noun chunk without its determiners and possessive pronouns."""
    return spelled([token for token in chunk if token.pos_ != "DET" and token.dep_ not in {"poss", "case"}])


def relations_of(noun: Any) -> Iterator[tuple[int, str, int]]:
    """What is said of a noun, as (subject, words between, object), by the positions of the heads."""
    for subject in (noun, *joined(noun)):
        yield from ((subject.i, link, target.i) for link, target in prepositions(noun))
        for verb in verbs(noun):
            yield from ((subject.i, link, target.i) for link, target in complements(verb))


def joined(noun: Any) -> Iterator[Any]:
    """The nouns joined to one ("a cat and a dog"); they share what is said of the first."""
    for child in noun.children:
        if child.dep_ == "conj":
            yield child
            yield from joined(child)


def verbs(noun: Any) -> Iterator[Any]:
    """The verbs of which a noun is the subject: its own clause, those joined to it, and those that describe it."""
    starts = [child for child in noun.children if child.dep_ in CLAUSES]
    if noun.dep_ in SUBJECTS:
        starts.append(noun.head)
    for verb in starts:
        yield verb
        yield from (
            child for child in verb.children if child.dep_ in {"conj", "advcl", "xcomp"} and not has_subject(child)
        )


def has_subject(verb: Any) -> bool:
    """Whether a verb has a subject of its own."""
    return any(child.dep_ in SUBJECTS for child in verb.children)


def complements(verb: Any) -> Iterator[tuple[str, Any]]:
    """The objects of a verb and of its prepositions, with the words that lead to them; "is" alone says nothing."""
    said = "" if verb.lower_ in {"is", "are", "was", "were", "be"} else verb.lower_
    particles = [child.lower_ for child in verb.children if child.dep_ == "prt"]
    for child in verb.children:
        if child.dep_ in OBJECTS and said:
            yield from ((" ".join([said, *particles]), target) for target in (child, *joined(child)))
    for link, target in prepositions(verb):
        yield " ".join(filter(None, [said, *particles, link])), target


def prepositions(head: Any) -> Iterator[tuple[str, Any]]:
    """The nouns that prepositions attach to a word; one that names no thing is read through ("in front of a bus")."""
    for child in head.children:
        if child.dep_ in {"prep", "agent"}:
            for target in child.children:
                if target.dep_ == "pobj" and target.lower_ in NO_THINGS:
                    words = [child.lower_, *(word.lower_ for word in target.lefts), target.lower_]
                    yield from ((" ".join([*words, link]), deeper) for link, deeper in prepositions(target))
                elif target.dep_ == "pobj":
                    yield from ((child.lower_, other) for other in (target, *joined(target)))
            yield from ((f"{child.lower_} {link}", target) for link, target in prepositions(child))
