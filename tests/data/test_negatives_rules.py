"""Closed examples: what each rule makes of a caption, and what it must leave alone."""

import pytest

from compalign.data.negatives import NegativeGenerator, TextBlobTagger

PETS = ("cat", "rabbit", "monkey")
MATERIALS = ("wooden", "stone", "glass", "paper", "leather")


@pytest.fixture(scope="module")
def tagger():
    return TextBlobTagger()


@pytest.fixture(scope="module")
def negatives(tagger):
    """A function from a kind and a caption to the texts of all its negatives."""

    def propose(kind: str, caption: str) -> set[str]:
        generator = NegativeGenerator(kinds=[kind], num_negatives=100, tagger=tagger)
        return {negative.text for negative in generator.propose([caption])[0]}

    return propose


def each(caption: str, *words: str) -> set[str]:
    """The caption with each of the words in the place of `_`."""
    return {caption.replace("_", word) for word in words}


@pytest.mark.parametrize(
    ("caption", "expected"),
    [
        ("A dog chases a cat.", {"A cat chases a dog."}),
        ("A large slice of pizza on a plate", {"A plate on a large slice of pizza"}),
        ("An old man riding two horses!", {"Two horses riding an old man!"}),
        ("Man riding horse", {"Horse riding man"}),
        ("DOG IN THE YARD", set()),
        ("A DOG IN THE YARD", {"THE YARD IN A DOG"}),
        ("A cat and a dog on a bed.", {"A bed and a dog on a cat.", "A cat and a bed on a dog."}),
    ],
)
def test_swap_object_exchanges_whole_noun_phrases(negatives, caption, expected):
    assert negatives("swap_object", caption) == expected


def test_words_are_replaced_by_offset_not_by_substring(negatives):
    assert negatives("swap_object", "A man in a cap holds a cape near a car.") == {
        "A cap in a man holds a cape near a car.",
        "A cape in a cap holds a man near a car.",
        "A man in a cape holds a cap near a car.",
    }


@pytest.mark.parametrize(
    "caption",
    [
        "A cat and a dog.",
        "A cat next to a dog.",
        "A man with a dog.",
        "A woman kissing a man.",
        "A dog on a dog",
        "A group of people",
        "A picture of a dog",
        "A statue of a dog under a tree",
        "A dog chases two cats.",
        "A man brushing his teeth",
        "A man with a hat in the background",
    ],
)
def test_swap_object_leaves_what_would_stay_true_or_turn_ungrammatical(negatives, caption):
    assert negatives("swap_object", caption) == set()


@pytest.mark.parametrize(
    ("caption", "expected"),
    [
        ("A red bus behind a white car.", {"A white bus behind a red car."}),
        ("An old clock on a new shelf", {"A new clock on an old shelf"}),
        ("A large dog on a small bed", {"A small dog on a large bed"}),
        ("A large dog on a big bed", set()),
        ("A white cat on a white bed", set()),
        ("A young man in a black shirt", set()),
        ("A red and white bus behind a blue car", set()),
        ("A red car behind a blue car", set()),
    ],
)
def test_swap_attribute_exchanges_attributes_that_suit_both_nouns(negatives, caption, expected):
    assert negatives("swap_attribute", caption) == expected


@pytest.mark.parametrize(
    ("caption", "expected"),
    [
        ("a dog", each("a _", *PETS)),
        ("the dog's ball", each("the _'s ball", *PETS) | each("the dog's _", "frisbee", "balloon", "boomerang")),
        ("A herd of sheep", each("A herd of _", "horses", "cows", "pigs", "donkeys", "llamas")),
        ("Two surfers", each("Two _", "skiers", "skateboarders", "snowboarders")),
        ("the women", each("the _", "men", "children")),
        ("A wine glass", each("A _", "lantern", "boot", "hat")),
        ("Eating an orange", each("Eating a _", "pineapple", "coconut", "fig", "pickle")),
        ("A man in his hat", {"A child in his hat"} | each("A man in his _", "crown", "veil", "wig")),
        ("A young girl", {"A young boy"}),
        ("A dog and a puppy", set()),
        ("A statue of a man", each("A statue of a _", "woman", "child")),
        ("A dog, a cat, a rabbit and a monkey", set()),
        ("A person", set()),
        ("A pizza oven", set()),
        ("A skateboard", each("A _", "surfboard", "snowboard", "unicycle")),
    ],
)
def test_replace_object_keeps_number_and_article_and_avoids_rivals(negatives, caption, expected):
    assert negatives("replace_object", caption) == expected


@pytest.mark.parametrize(
    ("caption", "expected"),
    [
        ("an old dog", {"a young dog"}),
        ("Small train", {"Large train"}),
        ("A large group of people", {"A small group of people"}),
        ("A tiny plastic chair", {"A large plastic chair"} | each("A tiny _ chair", *MATERIALS, "metal")),
        (
            "A plastic chair and a metal fork",
            each("A _ chair and a metal fork", *MATERIALS) | each("A plastic chair and a _ fork", *MATERIALS),
        ),
        ("a snowy hill", {"a grassy hill", "a sandy hill", "a muddy hill", "an icy hill"}),
        ("Two dogs", each("_ dogs", "Four", "Five", "Six")),
        ("a black man", set()),
        ("The sky is orange", set()),
        ("A glass of orange juice", set()),
    ],
)
def test_replace_attribute_uses_what_excludes_it_and_suits_the_noun(negatives, caption, expected):
    assert negatives("replace_attribute", caption) == expected


@pytest.mark.parametrize(
    ("caption", "expected"),
    [
        ("A dog in front of a car", {"A dog behind a car"}),
        ("A cup to the left of a plate", {"A cup to the right of a plate"}),
        ("Cat on top of a table", {"Cat under a table"}),
        ("A man inside of a house", {"A man outside a house"}),
        ("A woman walking down the hill", {"A woman walking up the hill"}),
        ("A woman walking down the street", set()),
        ("A man in a suit on a sunny day", set()),
        ("A cat on a bed under a lamp", {"A cat on a bed above a lamp"}),
    ],
)
def test_replace_relation_treats_a_phrase_as_one_relation(negatives, caption, expected):
    assert negatives("replace_relation", caption) == expected


@pytest.mark.parametrize(
    ("caption", "expected"),
    [
        ("A man sitting on a bench", each("A man _ on a bench", "standing", "running", "jumping")),
        ("A man sits on a bench.", each("A man _ on a bench.", "stands", "runs", "jumps")),
        ("Dogs lie on a bed", each("Dogs _ on a bed", "stand", "run", "jump")),
        ("A boy carries a bat", each("A boy _ a bat", "throws", "drops", "kicks")),
        ("A man in a hat pushing a cart", {"A man in a hat pulling a cart"}),
        ("A car parked on a street", {"A car driving on a street"}),
        ("A vase sits on a table", set()),
        ("A woman standing and holding up a sign", set()),
    ],
)
def test_replace_action_keeps_the_form_and_asks_for_a_fitting_subject(negatives, caption, expected):
    assert negatives("replace_action", caption) == expected


def test_reorder_keeps_the_words_and_the_final_full_stop(negatives):
    caption = "A man riding a horse on a beach."
    found = negatives("reorder", caption)
    assert found
    for text in found:
        assert text.endswith(".")
        assert sorted(text.lower().strip(".").split()) == sorted(caption.lower().strip(".").split())


@pytest.mark.parametrize(
    ("caption", "nouns", "verbs"),
    [
        ("A bathroom with a sink, a tub and sink", ["bathroom", "sink", "tub", "sink"], []),
        ("A dog chases two cats", ["dog", "cats"], ["chases"]),
        ("A surfer paddles over a wave", ["surfer", "wave"], ["paddles"]),
        ("A yellow rose in an orange vase by an orange", ["rose", "vase", "orange"], []),
        ("An orange and white cat", ["cat"], []),
        ("A stop sign near a brick building", ["stop", "sign", "building"], []),
        ("A man walks down a snow covered hill", ["man", "snow", "hill"], ["walks"]),
    ],
)
def test_the_default_tagger_knows_the_nouns_and_verbs_of_captions(tagger, caption, nouns, verbs):
    tokens = tagger(caption)
    assert [token.text for token in tokens if token.tag == "NOUN"] == nouns
    assert [token.text for token in tokens if token.tag == "VERB"] == verbs
    assert all(caption[token.start : token.end] == token.text for token in tokens)
