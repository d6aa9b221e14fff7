"""Part-of-speech taggers, from a caption to tokens with character offsets."""

import re
from dataclasses import dataclass
from typing import Any

from .lexicon import Lexicon, load_lexicon

WORD = re.compile("['\u2019]\\w+|\\w+(?:-\\w+)*|[^\\w\\s]")

TAGS = {"NOUN", "ADJ", "VERB", "ADP", "DET", "NUM", "OTHER"}
NOMINAL = {"DET", "ADJ", "NUM", "NOUN"}
PHRASE_ENDS = {"DET", "ADP", "NUM", "END"}

# By the first two letters of a Penn tag. The third letter marks number or tense.
PENN = {"NN": "NOUN", "JJ": "ADJ", "VB": "VERB", "MD": "VERB", "IN": "ADP", "TO": "ADP", "DT": "DET", "CD": "NUM"}


@dataclass(frozen=True)
class Token:
    """A word, a punctuation mark or, after merging, a fixed phrase of a caption.

    Args:
        text (`str`): Its characters, `caption[start:end]`.
        start (`int`): Offset of its first character.
        end (`int`): Offset after its last character.
        tag (`str`): `"NOUN"`, `"ADJ"`, `"VERB"`, `"ADP"`, `"DET"`, `"NUM"` or `"OTHER"`.
    """

    text: str
    start: int
    end: int
    tag: str


class TextBlobTagger:
    """The default tagger: the lexicon of textblob, which needs no download, with corrections for captions.

    textblob tags many words of captions by their more common use elsewhere ("a sink", "a yellow rose", "a dog chases").
    The corrections consider neighbouring words and the lexicon of the rules.

    Example:

        >>> [token.tag for token in TextBlobTagger()("A dog chases a cat.")]
        ['DET', 'NOUN', 'VERB', 'DET', 'NOUN', 'OTHER']
    """

    def __init__(self):
        from textblob.taggers import PatternTagger  # imported here: it loads more slowly than all readers together

        self.tagger = PatternTagger()
        self.lexicon = load_lexicon()

    def __call__(self, caption: str) -> list[Token]:
        """Tag one caption.

        Args:
            caption (`str`): Any text.

        Returns:
            `list[Token]`: Words and punctuation marks in order. An empty caption has no tokens.
        """
        spans = [match.span() for match in WORD.finditer(caption)]
        words = [caption[start:end].lower() for start, end in spans]
        if not words:
            return []
        penn = [tag for _, tag in self.tagger.tag(" ".join(words), tokenize=False)]
        tags = correct(words, penn, self.lexicon)
        return [Token(caption[start:end], start, end, tag) for (start, end), tag in zip(spans, tags, strict=True)]


def load_spacy(pipeline: str) -> Any:
    """Load a spaCy pipeline by its name or path, without components that tags and parses do not need.

    Raises:
        ImportError: If spaCy is not installed.
        ValueError: If the pipeline is not installed.
    """
    try:
        import spacy
    except ImportError as error:
        raise ImportError("a spaCy pipeline needs spaCy: pip install compalign[negatives]") from error
    try:
        return spacy.load(pipeline, exclude=["ner", "lemmatizer"])
    except OSError as error:
        raise ValueError(f"no spaCy pipeline {pipeline!r}: python -m spacy download {pipeline}") from error


class SpacyTagger:
    """Tagger with a spaCy pipeline, which is more accurate than [`TextBlobTagger`].

    Args:
        pipeline (`str`): Name or path of a pipeline with a tagger, such as `"en_core_web_sm"`.

    Raises:
        ImportError: If spaCy is not installed.
        ValueError: If the pipeline is not installed.
    """

    def __init__(self, pipeline: str = "en_core_web_sm"):
        self.pipeline = load_spacy(pipeline)
        self.possessives = load_lexicon().words["possessives"]

    def __call__(self, caption: str) -> list[Token]:
        """Tag one caption, as [`TextBlobTagger`] does."""
        words = [word for word in self.pipeline(caption) if not word.is_space]
        return [Token(word.text, word.idx, word.idx + len(word.text), self._tag(word)) for word in words]

    def _tag(self, word) -> str:
        """Return the coarse tag of a spaCy token."""
        if word.lower_ in self.possessives:
            return "DET"
        tag = {"PROPN": "NOUN", "AUX": "VERB"}.get(word.pos_, word.pos_)
        return tag if tag in TAGS else "OTHER"


def correct(words: list[str], penn: list[str], lexicon: Lexicon) -> list[str]:
    """Return coarse tags for lower-case words with Penn tags, corrected from left to right by their neighbours."""
    tags = [coarse(word, tag, lexicon) for word, tag in zip(words, penn, strict=True)]
    for index, word in enumerate(words):
        before = tags[index - 1] if index else "START"
        after = tags[index + 1] if index + 1 < len(words) else "END"
        joined = words[index + 1 : index + 2] == ["and"] and index + 2 < len(words)
        if joined and words[index + 2] in lexicon.attributes.readings:
            after = "ADJ"  # "an orange and white cat"
        tags[index] = corrected(word, tags[index], before, after, lexicon)
        verb_place = tags[index] == before == "NOUN" and after in PHRASE_ENDS
        if verb_place and agrees(words[index - 1], word, lexicon):
            tags[index] = "VERB"
    return tags


def coarse(word: str, penn: str, lexicon: Lexicon) -> str:
    """Return the coarse tag of a word without its context."""
    if word in lexicon.words["determiners"]:
        return "DET"
    if word in lexicon.words["auxiliaries"]:
        return "VERB"
    if word in lexicon.words["conjunctions"] or not word[0].isalnum():
        return "OTHER"
    return PENN.get(penn[:2], "OTHER")


def corrected(word: str, tag: str, before: str, after: str, lexicon: Lexicon) -> str:
    """Return the corrected tag of a word between two tagged neighbours."""
    if word in lexicon.words["auxiliaries"]:
        return tag
    if word in lexicon.words["particles"]:
        return "ADP" if after in NOMINAL else "OTHER"
    noun, attribute, action = (
        word in family.readings for family in (lexicon.objects, lexicon.attributes, lexicon.actions)
    )
    if attribute and after in {"NOUN", "ADJ"} and tag != "NUM":
        return "ADJ"
    if noun and attribute:
        return "NOUN"
    if word.endswith("ed") and before == after == "NOUN":
        return "ADJ"  # "a snow covered field"
    if tag == "VERB" and noun and not action:
        return "NOUN"
    participle = word.endswith(("ing", "ed"))
    if tag == "VERB" and before in {"DET", "ADJ", "NUM"}:
        return "NOUN" if not participle else "ADJ" if after in {"NOUN", "ADJ"} else "VERB"
    if tag == "NOUN" and before == "NOUN" and not noun and after in PHRASE_ENDS:
        third_person = word.endswith("s") and (action or after == "DET")
        return "VERB" if word.endswith("ing") or third_person else "NOUN"
    return tag


def agrees(subject: str, word: str, lexicon: Lexicon) -> bool:
    """Return whether a word that is no listed noun could be the verb of a person or animal ("a surfer paddles")."""
    readings = lexicon.objects.readings.get(subject, ())
    animate = any(lexicon.objects.categories[noun] in {"person", "animal"} for noun, _ in readings)
    singular = any(form == "singular" for _, form in readings)
    return animate and word not in lexicon.objects.readings and word.endswith("s") == singular
