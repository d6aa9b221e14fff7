"""Properties of what the generator proposes, on odd captions and on the real ones."""

import json
import pickle
import re
import subprocess
import sys
from types import SimpleNamespace

import pytest

from compalign.data import Negative, NegativeGenerator
from compalign.data.negatives import CECLIP_KINDS, DEFAULT_KINDS, SpacyTagger, Token, coverage, prepare

ODD = [
    "",
    " ",
    ".",
    "Cat",
    "cat!!",
    "狗在床上",
    "a cat and a cat",
    "A man/woman on a\nbench\t.",
    "🐎" * 400,
    "the of on a an",
]


@pytest.fixture(scope="module")
def generator():
    return NegativeGenerator()


@pytest.fixture(scope="module")
def captions(shared):
    """Real captions: COCO's of the shipped photographs, then SugarCrepe's."""
    coco = json.loads((shared / "data/coco_by/captions_val2017.json").read_text(encoding="utf-8"))["annotations"]
    texts = [row["caption"] for row in coco]
    for file in sorted((shared / "data/annotations/sugar_crepe").glob("*.json")):
        texts += [row["caption"] for row in json.loads(file.read_text(encoding="utf-8")).values()]
    return list(dict.fromkeys(texts))


@pytest.fixture(scope="module")
def proposals(generator, captions):
    return generator.propose(captions)


def plain(text: str) -> str:
    """An independent form of what makes two captions equal: their words in lower case."""
    return " ".join(re.findall(r"[\w'-]+", text.lower()))


def test_no_proposal_on_real_captions_has_a_known_defect(captions, proposals):
    for caption, row in zip(captions, proposals, strict=True):
        texts = [plain(negative.text) for negative in row]
        assert len(row) <= 4
        assert len({plain(caption), *texts}) == 1 + len(texts)
        assert all(len(text.split()) > 1 for text in texts)


def test_articles_agree_with_the_words_put_behind_them(captions, proposals):
    wrong = re.compile(r"\b(a\s+[aeio]|an\s+[^\saeiouh])", re.IGNORECASE)
    for caption, row in zip(captions, proposals, strict=True):
        for negative in row:
            assert len(wrong.findall(negative.text)) <= len(wrong.findall(caption)), (caption, negative)


def test_capital_and_final_punctuation_stay(captions, proposals):
    for caption, row in zip(captions, proposals, strict=True):
        for negative in row:
            assert negative.text[0].isupper() == caption[0].isupper()
            assert caption[-1].isalnum() or negative.text[-1] == caption[-1]


def test_a_kind_repeats_only_after_every_other_kind_that_applies(captions, proposals):
    for row in proposals:
        kinds = [negative.kind for negative in row]
        counts = [kinds.count(kind) for kind in set(kinds)]
        assert not row or sorted(kinds[: len(counts)]) == sorted(set(kinds))


def test_nearly_every_real_caption_gets_negatives_of_most_kinds(captions, proposals):
    counts = coverage(proposals)
    assert counts["without"] < 0.05 * len(captions)
    assert counts["sizes"][4] > 0.85 * len(captions)
    least = {"replace_object": 0.8, "swap_object": 0.5, "replace_attribute": 0.4, "replace_relation": 0.4}
    least |= {"replace_action": 0.3, "swap_attribute": 0.04}
    for kind, share in least.items():
        assert counts["kinds"][kind] > share * len(captions), kind


@pytest.mark.parametrize(("kinds", "most"), [(set(DEFAULT_KINDS), 0.57), ({"replace_object"}, 0.53)])
def test_length_alone_hardly_tells_the_caption(captions, proposals, kinds, most):
    gaps = [
        len(negative.text) - len(caption)
        for caption, row in zip(captions, proposals, strict=True)
        for negative in row
        if negative.kind in kinds
    ]
    shorter_is_true = sum((gap > 0) + 0.5 * (gap == 0) for gap in gaps) / len(gaps)
    assert 1 - most < shorter_is_true < most


def test_order_and_batches_do_not_matter(generator, captions, proposals):
    some = captions[:200]
    assert generator.propose(some[::-1])[::-1] == proposals[:200]
    assert [generator.propose([caption])[0] for caption in some] == proposals[:200]


def test_another_process_proposes_the_same(generator):
    caption = "A young man in a red shirt throws a white frisbee to a dog on the grass."
    program = f"from compalign.data import NegativeGenerator; print(NegativeGenerator().propose([{caption!r}])[0])"
    printed = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    assert printed.strip() == str(generator.propose([caption])[0])


def test_a_generator_can_be_sent_to_a_worker(generator):
    caption = "A dog chases a cat."
    assert pickle.loads(pickle.dumps(generator)).propose([caption]) == generator.propose([caption])


def test_another_seed_proposes_something_else(captions, generator):
    assert NegativeGenerator(seed=1).propose(captions[:20]) != generator.propose(captions[:20])


@pytest.mark.parametrize("caption", ODD)
def test_odd_captions_are_survived(caption):
    generator = NegativeGenerator(kinds=(*DEFAULT_KINDS, "reorder"))
    for negative in generator.propose([caption])[0]:
        assert plain(negative.text) != plain(caption)
        assert len(negative.text.split()) > 1


def test_every_character_outside_the_change_is_kept(generator):
    caption = "  A naïve café owner (“très chic”)\n rides a horse 🐎 on a beach…  "
    replaced = [negative for negative in generator.propose([caption])[0] if negative.kind == "replace_object"]
    for negative in replaced:
        assert negative.text.startswith("  A naïve café owner (“très chic”)\n rides a ")
        assert negative.text.endswith("…  ")
    assert replaced


def test_typed_negatives_leave_a_slot_empty_where_the_rule_does_not_apply(generator):
    rows = generator.propose_typed(["A young dog chases a cat.", "A toilet", ""])
    assert [negative and negative.kind for negative in rows[0]] == list(CECLIP_KINDS)
    assert rows[0][0].text == "A cat chases a young dog."
    assert [negative is None for negative in rows[1]] == [True, True, False, True]
    assert rows[2] == [None] * 4


def test_coverage_counts_kinds_and_captions_without_negatives():
    dog, cat = Negative("a dog", "replace_object"), Negative("a cat", "replace_object")
    assert coverage([[dog, cat], [], [None, dog]]) == {
        "captions": 3,
        "negatives": 3,
        "without": 1,
        "sizes": {0: 1, 1: 1, 2: 1},
        "kinds": {"replace_object": 2},
    }


def test_prepare_adds_negatives_and_their_mask(generator):
    from datasets import Dataset

    dataset = Dataset.from_dict({"caption": ["A dog chases a cat.", "", "A toilet"], "image_id": [7, 8, 9]})
    ragged = prepare(dataset, generator.propose)
    assert ragged["image_id"] == [7, 8, 9]
    assert [len(texts) for texts in ragged["negative_captions"]] == [4, 0, 3]
    assert ragged["negative_mask"] == [[1, 1, 1, 1], [], [1, 1, 1]]
    typed = prepare(dataset, generator.propose_typed)
    assert typed["negative_mask"] == [[1, 0, 1, 1], [0, 0, 0, 0], [0, 0, 1, 0]]
    assert typed["negative_captions"][0][:2] == ["A cat chases a dog.", ""]
    with pytest.raises(ValueError, match="'text'"):
        prepare(dataset.rename_column("caption", "text"), generator.propose)


def test_a_tagger_of_ones_own_is_used():
    def tagger(caption: str) -> list[Token]:
        tags = {"dogs": "NOUN", "chase": "VERB", "wugs": "NOUN", "two": "NUM", "six": "NUM"}
        return [Token(m.group(), *m.span(), tags[m.group()]) for m in re.finditer(r"\w+", caption)]

    generator = NegativeGenerator(kinds=["swap_object"], tagger=tagger)
    assert [negative.text for negative in generator.propose(["two dogs chase six wugs"])[0]] == [
        "six wugs chase two dogs"
    ]


def test_spacy_is_asked_for_by_its_extra_and_its_pipeline_by_name(monkeypatch):
    monkeypatch.setitem(sys.modules, "spacy", None)
    with pytest.raises(ImportError, match=r"pip install compalign\[negatives\]"):
        SpacyTagger("en_core_web_sm")

    def load(name, exclude):
        raise OSError(name)

    monkeypatch.setitem(sys.modules, "spacy", SimpleNamespace(load=load))
    with pytest.raises(ValueError, match="spacy download en_core_web_sm"):
        SpacyTagger("en_core_web_sm")


def test_spacy_tags_become_tokens(monkeypatch):
    words = [
        ("Fido", 0, "PROPN"),
        ("is", 5, "AUX"),
        (" ", 8, "SPACE"),
        ("on", 9, "ADP"),
        ("his", 12, "PRON"),
        ("it", 16, "PRON"),
    ]

    def pipeline(caption):
        for text, start, tag in words:
            yield SimpleNamespace(text=text, idx=start, pos_=tag, lower_=text.lower(), is_space=text.isspace())

    monkeypatch.setitem(sys.modules, "spacy", SimpleNamespace(load=lambda name, exclude: pipeline))
    tokens = SpacyTagger("any")("Fido is  on his it")
    assert [(token.text, token.tag) for token in tokens] == [
        ("Fido", "NOUN"),
        ("is", "VERB"),
        ("on", "ADP"),
        ("his", "DET"),
        ("it", "OTHER"),
    ]
    assert tokens[2] == Token("on", 9, 11, "ADP")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"kinds": ["swap_obj"]}, "swap_obj'"),
        ({"kinds": []}, "some of swap_object"),
        ({"num_negatives": 0}, "at least 1, got 0"),
    ],
)
def test_wrong_arguments_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        NegativeGenerator(**arguments)


@pytest.mark.parametrize(("captions", "message"), [("A dog", "the string 'A dog'"), (["A dog", None], "None at row 1")])
def test_wrong_captions_are_named(generator, captions, message):
    with pytest.raises(ValueError, match=message):
        generator.propose(captions)
