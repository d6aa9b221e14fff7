"""Components of captions by dependency parse, with a spaCy pipeline."""

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
    """Parser that reads entities from noun chunks, and relations from the arcs between their heads.

    These arcs are prepositions, verbs with their objects, and joined phrases.

    Args:
        pipeline (`str`): Name or path of an English pipeline with a parser, such as `"en_core_web_sm"`.

    Raises:
        ImportError: If spaCy is not installed.
        ValueError: If the pipeline is not installed, or has no parser.
    """

    def __init__(self, pipeline: str = "en_core_web_sm"):
        self.pipeline = load_spacy(pipeline)
        if "parser" not in self.pipeline.pipe_names:
            raise ValueError(
                f"the spaCy pipeline {pipeline!r} has no parser; its components are {self.pipeline.pipe_names}"
            )
        self.settings = {"kind": "spacy", "pipeline": pipeline, "version": self.pipeline.meta["version"]}

    def __call__(self, caption: str) -> CaptionComponents:
        """Return the components of one caption, as [`ChunkParser`] does."""
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
    """Return whether a noun chunk names something visible."""
    compound = any(child.dep_ == "compound" for child in chunk.root.children)
    return compound or chunk.root.lower_ not in NO_THINGS


def spelled(tokens: Any) -> str:
    """Write tokens in lower case, with single spaces."""
    return " ".join(token.lower_ for token in tokens)


def bare(chunk: Any) -> str:
    """Write a noun chunk without its determiners and possessive pronouns."""
    return spelled([token for token in chunk if token.pos_ != "DET" and token.dep_ not in {"poss", "case"}])


def relations_of(noun: Any) -> Iterator[tuple[int, str, int]]:
    """Yield the relations of a noun as (subject, words between, object), with the positions of the heads."""
    for subject in (noun, *joined(noun)):
        yield from ((subject.i, link, target.i) for link, target in prepositions(noun))
        for verb in verbs(noun):
            yield from ((subject.i, link, target.i) for link, target in complements(verb))


def joined(noun: Any) -> Iterator[Any]:
    """Yield the nouns joined to a noun ("a cat and a dog"), which share its relations."""
    for child in noun.children:
        if child.dep_ == "conj":
            yield child
            yield from joined(child)


def verbs(noun: Any) -> Iterator[Any]:
    """Yield the verbs whose subject is a noun: of its own clause, joined to that clause, or describing the noun."""
    starts = [child for child in noun.children if child.dep_ in CLAUSES]
    if noun.dep_ in SUBJECTS:
        starts.append(noun.head)
    for verb in starts:
        yield verb
        yield from (child for child in verb.children if child.dep_ in FOLLOWERS and not has_subject(child))


def has_subject(verb: Any) -> bool:
    """Return whether a verb has a subject of its own."""
    return any(child.dep_ in SUBJECTS for child in verb.children)


def complements(verb: Any) -> Iterator[tuple[str, Any]]:
    """Yield the objects of a verb and of its prepositions, with the words before them. "is" alone is no relation."""
    said = "" if verb.lower_ in {"is", "are", "was", "were", "be"} else verb.lower_
    particles = [child.lower_ for child in verb.children if child.dep_ == "prt"]
    for child in verb.children:
        if child.dep_ in OBJECTS and said:
            yield from ((" ".join([said, *particles]), target) for target in (child, *joined(child)))
    for link, target in prepositions(verb):
        yield " ".join(filter(None, [said, *particles, link])), target


def prepositions(head: Any) -> Iterator[tuple[str, Any]]:
    """Yield the nouns that prepositions attach to a word, reading through "front" in "in front of a bus"."""
    for child in head.children:
        if child.dep_ in {"prep", "agent"}:
            for target in child.children:
                if target.dep_ == "pobj" and target.lower_ in NO_THINGS:
                    words = [child.lower_, *(word.lower_ for word in target.lefts), target.lower_]
                    yield from ((" ".join([*words, link]), deeper) for link, deeper in prepositions(target))
                elif target.dep_ == "pobj":
                    yield from ((child.lower_, other) for other in (target, *joined(target)))
            yield from ((f"{child.lower_} {link}", target) for link, target in prepositions(child))
