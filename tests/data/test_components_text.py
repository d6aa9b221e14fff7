"""Components of captions: closed examples, the generated world's own statements, real captions, a dependency parse."""

import json
import random
import sys
from types import SimpleNamespace

import pytest

from compalign.data.components import SpacyParser, extract
from compalign.data.scenes import (
    NEGATIVE_KINDS,
    SPLITS,
    SceneDataset,
    full_caption,
    generate_scene,
    negative_statement,
    paraphrase,
)
from compalign.data.scenes.components import SceneComponentDataset, caption_components


@pytest.mark.parametrize(
    ("caption", "entities", "relations"),
    [
        ("A brown dog left of a ball.", ["brown dog", "ball"], ["brown dog left of a ball"]),
        ("A man riding two horses", ["man", "two horses"], ["man riding two horses"]),
        ("The dog is sitting on top of the bed.", ["dog", "bed"], ["dog sitting on top of the bed"]),
        ("A red and white bus", ["red and white bus"], []),
        ("A cat and a dog on a bed.", ["cat", "dog", "bed"], ["cat on a bed", "dog on a bed"]),
        ("A table with a cup and a plate.", ["table", "cup", "plate"], ["table with a cup", "table with a plate"]),
        (
            "A cat on a bed and a dog on a mat.",
            ["cat", "bed", "dog", "mat"],
            ["cat on a bed", "bed on a mat", "dog on a mat"],  # the second is wrong: a phrase joined to two things
        ),
        (
            "A man with a bat hitting a ball.",
            ["man", "bat", "ball"],
            ["man with a bat", "man hitting a ball"],
        ),
        (
            "A laptop on a desk is surrounded by books.",
            ["laptop", "desk", "books"],
            ["laptop on a desk", "laptop surrounded by books"],
        ),
        (
            "A woman at a bar that contains bottles.",
            ["woman", "bar", "bottles"],
            ["woman at a bar", "bar contains bottles"],
        ),
        ("A woman walking while carrying bananas.", ["woman", "bananas"], ["woman carrying bananas"]),
        (
            "A wug holds a spoon and looks at a cake.",
            ["wug", "spoon", "cake"],
            ["wug holds a spoon", "wug looks at a cake"],
        ),
        ("A room with no chairs.", ["room"], ["room with no chairs"]),
        ("On a table there is a cup.", ["table", "cup"], ["cup on a table"]),
        ("People skiing down the side of a hill", ["people", "hill"], ["people skiing down the side of a hill"]),
        ("A picture of a dog.", ["dog"], []),
        ("A picture on a wall.", ["picture", "wall"], ["picture on a wall"]),
        ("A pizza that is on a wooden platter.", ["pizza", "wooden platter"], ["pizza on a wooden platter"]),
        ("A dog and a dog.", ["dog"], []),
        ("A red cat on the left side and a dog on the right.", ["red cat", "dog"], []),
        ("At the top a pink tower, on the left side a dog", ["pink tower", "dog"], []),
        ("A parking space on the side of a road", ["parking space", "road"], ["parking space on the side of a road"]),
        ("A yellow key, a card and a small key", ["yellow key", "card", "small key"], []),
        ("Left of a yellow key there is a cat.", ["yellow key", "cat"], ["cat left of a yellow key"]),
        ("An orange cross on a wall", ["orange cross", "wall"], ["orange cross on a wall"]),
        ("An orange cut in half on a plate", ["orange", "plate"], ["orange cut in half on a plate"]),
        ("A red and white bus and a white, round table", ["red and white bus", "white, round table"], []),
        ("Running quickly!", [], []),
        ("", [], []),
    ],
)
def test_phrases_and_relations_in_order_of_appearance(caption, entities, relations):
    assert extract([caption]) == [(caption, entities, relations)]


@pytest.mark.parametrize("split", SPLITS)
def test_the_parser_reads_what_the_scene_graph_says(split):
    """The graph is an independent reference: every sentence form, true captions and negatives of all kinds."""
    for seed in range(150):
        scene, rng = generate_scene(seed, split=split), random.Random(seed)
        caption = full_caption(scene, rng)
        edits = [negative_statement(scene, caption.statement, kind, rng) for kind in NEGATIVE_KINDS]
        negatives = [caption._replace(statement=edit) for edit in edits if edit is not None]
        for said in (caption, paraphrase(caption, rng), *negatives):
            assert extract([said.text]) == [caption_components(said)]


def test_the_components_of_a_scene_caption_are_those_of_its_statement():
    related = 0
    for seed in range(60):
        caption = full_caption(generate_scene(seed, 2), random.Random(seed))
        mentions = caption.statement.mentions
        text, entities, relations = caption_components(caption)
        assert text == caption.text
        assert set(entities) == {mention.phrase.removeprefix("an ").removeprefix("a ") for mention in mentions}
        assert [text.index(entity) for entity in entities] == sorted(text.index(entity) for entity in entities)
        assert len(relations) == (caption.statement.relation is not None)
        for relation in relations:
            _, _, subject = mentions[0].phrase.partition(" ")
            assert relation.startswith(subject)
            assert relation.endswith(mentions[1].phrase)
            related += 1
    assert related > 10


def test_a_scene_row_has_regions_and_the_same_captions_as_its_plain_row():
    rows, plain = SceneComponentDataset(8, "test", 48, seed=5, num_negatives=3), SceneDataset(8, "test", 3, 48, seed=5)
    for row, other in zip((rows[i] for i in range(8)), (plain[i] for i in range(8)), strict=True):
        assert row["image"].tobytes() == other["image"].tobytes()
        assert [caption.text for caption in row["captions"]] == [other["caption"]]
        assert [caption.text for caption in row["negative_captions"]] == list(filter(None, other["negative_captions"]))
        assert row["image_id"] == other["image_id"]
        count = len(row["entities"])
        assert len(row["relations"]) == count * (count - 1) // 2
        assert all(0 <= left < right <= 48 for (left, _, right, _), _, _ in row["entities"])
    with pytest.raises(IndexError):
        rows[8]


def test_real_captions_have_components(shared):
    """Nearly all; what has none is a list of noun phrases without a verb or preposition."""
    document = json.loads((shared / "data" / "coco_by" / "captions_val2017.json").read_text())
    found = extract([annotation["caption"] for annotation in document["annotations"]])
    assert len(found) == 620
    assert sum(not caption.entities for caption in found) <= 2
    assert sum(not caption.relations for caption in found) <= 0.1 * len(found)
    for text, entities, relations in found:
        places = [" ".join(text.lower().split()).find(entity) for entity in entities]
        assert -1 not in places
        assert len(set(entities)) == len(entities)
        assert len(set(relations)) == len(relations)


def make_document(*words):
    """Words as spaCy gives them, from (text, part of speech, arc, position of the head)."""
    tokens = [
        SimpleNamespace(i=i, lower_=text.lower(), pos_=tag, dep_=arc) for i, (text, tag, arc, _) in enumerate(words)
    ]
    for token, (*_, head) in zip(tokens, words, strict=True):
        token.head = tokens[head]
        token.children = [tokens[i] for i, word in enumerate(words) if word[3] == token.i != i]
        token.lefts = [child for child in token.children if child.i < token.i]
    return tokens


class Document(list):
    """A list of words with noun chunks, as spaCy's."""

    noun_chunks = ()


class Chunk(list):
    """A list of words of which the last is the root."""

    @property
    def root(self):
        return self[-1]


@pytest.fixture
def spacy_parser(monkeypatch):
    """A function from words and the bounds of chunks to what the parser makes of them."""

    def parse(words, *chunks):
        document = Document(make_document(*words))
        document.noun_chunks = [Chunk(document[start:end]) for start, end in chunks]
        pipeline = SimpleNamespace(pipe_names=["tagger", "parser"], meta={"version": "0"})
        monkeypatch.setitem(
            sys.modules, "spacy", SimpleNamespace(load=lambda name, exclude: CallablePipeline(pipeline, document))
        )
        return SpacyParser("tiny")("caption")

    return parse


class CallablePipeline:
    """A pipeline that has one answer."""

    def __init__(self, pipeline, document):
        self.pipe_names, self.meta, self.document = pipeline.pipe_names, pipeline.meta, document

    def __call__(self, caption):
        return self.document


def test_a_dependency_parse_attaches_the_verb_to_its_subject(spacy_parser):
    """A man and a woman in hats are riding a horse in front of a bus."""
    words = [
        ("A", "DET", "det", 1),
        ("man", "NOUN", "nsubj", 6),
        ("and", "CCONJ", "cc", 1),
        ("woman", "NOUN", "conj", 1),
        ("in", "ADP", "prep", 3),
        ("hats", "NOUN", "pobj", 4),
        ("riding", "VERB", "ROOT", 6),
        ("a", "DET", "det", 9),
        ("brown", "ADJ", "amod", 9),
        ("horse", "NOUN", "dobj", 6),
        ("in", "ADP", "prep", 6),
        ("front", "NOUN", "pobj", 10),
        ("of", "ADP", "prep", 11),
        ("a", "DET", "det", 14),
        ("bus", "NOUN", "pobj", 12),
    ]
    found = spacy_parser(words, (0, 2), (3, 4), (5, 6), (7, 10), (11, 12), (13, 15))
    assert found.entities == ["man", "woman", "hats", "brown horse", "bus"]
    assert found.relations == [
        "man riding a brown horse",
        "man riding in front of a bus",
        "woman in hats",
        "woman riding a brown horse",
        "woman riding in front of a bus",
    ]


def test_spacy_is_asked_for_by_name(monkeypatch):
    monkeypatch.setitem(sys.modules, "spacy", None)
    with pytest.raises(ImportError, match="pip install compalign"):
        SpacyParser()
