"""Lexicon of the rules: which word may replace which, and next to which words."""

import json
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path

VOWELS = "aeiou"


@dataclass(frozen=True)
class Alternative:
    """A word that may replace another word.

    Args:
        word (`str`): The replacement, uninflected.
        rivals (`frozenset[str]`): Words that must not be elsewhere in the caption. With them the new caption could be
            true (synonyms and narrower words of the replacement) or incoherent (a pronoun for the replaced word).
        of (`frozenset[str]`, *optional*): Accepted categories of the noun it belongs to: the noun that an attribute
            describes, the object of a relation, the subject of an action. By default any category.
        before (`frozenset[str]`, *optional*): Accepted words or tags of the next token (`"END"` for the end of the
            caption). By default any token.
    """

    word: str
    rivals: frozenset[str]
    of: frozenset[str] | None
    before: frozenset[str] | None


class Family:
    """One part of the lexicon (objects, attributes, relations or actions) with its inflected forms.

    Args:
        groups (`list[dict]`): Groups as in `lexicon.json`. `sets` lists alternatives that exclude each other. Each set
            starts with the word to use, then its synonyms and narrower words, then, after a slash, words that imply it
            (pronouns, "bearded"). If a group has `instead`, its words are replaced by these words rather than by the
            other sets, because its members often appear together.
        inflections (`dict[str, Callable[[str], str]]`): For each form, the function from the listed word to that form.
        coherent (`bool`): Whether a second mention of the replaced word, or a pronoun for it, forbids the replacement.
    """

    def __init__(self, groups: list[dict], inflections: dict[str, Callable[[str], str]], coherent: bool = False):
        self.inflections = inflections
        self.alternatives: dict[str, list[Alternative]] = defaultdict(list)
        self.categories: dict[str, str] = {}
        self.readings: dict[str, list[tuple[str, str]]] = defaultdict(list)
        synonyms: dict[str, set[str]] = defaultdict(set)
        for group in groups:
            for words, implying in map(split_entry, group["sets"]):
                for word in words:
                    synonyms[word].update(words, implying)
                    self.categories.setdefault(word, group.get("category", ""))
                    self._add_forms(word, group.get("inflected", True))
        for group in groups:
            sets = [split_entry(entry) for entry in group["sets"]]
            for words, implying in sets:
                targets = {others[0]: {*others, *also} for others, also in sets if others is not words}
                if "instead" in group:
                    targets = {word: {word, *synonyms[word]} for word in group["instead"]}
                for target, rivals in targets.items():
                    alternative = Alternative(
                        word=target,
                        rivals=frozenset(rivals.union(words, implying) if coherent else rivals),
                        of=frozenset(group["of"]) if "of" in group else None,
                        before=frozenset(group["before"]) if "before" in group else None,
                    )
                    for word in words:
                        self.alternatives[word].append(alternative)

    def _add_forms(self, word: str, inflected: bool) -> None:
        """Index every form of a word. An ambiguous form ("sheep") keeps all its readings."""
        for form, inflect in self.inflections.items() if inflected else [("", str)]:
            if (word, form) not in self.readings[inflect(word)]:
                self.readings[inflect(word)].append((word, form))

    def inflect(self, word: str, form: str) -> str:
        """Return a form of a listed word. The form `""` is the word as listed."""
        return self.inflections[form](word) if form else word

    def lemma(self, text: str) -> str:
        """Return the listed word of which a lower-case text is a form, or the text itself."""
        readings = self.readings.get(text)
        return readings[0][0] if readings else text


class Lexicon:
    """Everything in `lexicon.json`, indexed by word.

    Args:
        content (`dict`): The parsed file.
    """

    def __init__(self, content: dict):
        in_plural = partial(plural, irregular=content["irregular_plurals"])
        numbers: dict[str, Callable[[str], str]] = {"singular": str, "plural": in_plural}
        self.objects = Family(content["objects"], numbers, coherent=True)
        self.attributes = Family(content["attributes"], {"": str})
        self.relations = Family(content["relations"], {"": str})
        self.actions = Family(content["actions"], {"base": str, "third": third_person, "progressive": progressive})
        self.words: dict[str, frozenset[str]] = {name: frozenset(words) for name, words in content["words"].items()}
        self.phrases: dict[str, list[tuple[tuple[str, ...], str]]] = defaultdict(list)
        listed = {"NOUN": self.objects.readings, "ADJ": self.attributes.readings, "ADP": self.relations.readings}
        for tag, phrases in (*listed.items(), *content["phrases"].items()):
            self._add_phrases(tag, phrases)

    def _add_phrases(self, tag: str, phrases: Iterable[str]) -> None:
        """Index phrases of several words by their first word, the longest first."""
        for phrase in phrases:
            first, *rest = phrase.split(" ")
            if rest:
                self.phrases[first].append((tuple(rest), tag))
                self.phrases[first].sort(key=lambda entry: -len(entry[0]))


@cache
def load_lexicon() -> Lexicon:
    """Return the lexicon of the package, read once."""
    return Lexicon(json.loads(Path(__file__).with_name("lexicon.json").read_text(encoding="utf-8")))


def split_entry(entry: str) -> tuple[list[str], list[str]]:
    """Split an entry ("man|guy / he|his") into the words of the set and the words that imply it."""
    words, _, implying = entry.partition(" / ")
    return words.split("|"), implying.split("|") if implying else []


def plural(noun: str, irregular: dict[str, str]) -> str:
    """Return the plural of a noun ("stop sign" -> "stop signs", "fireman" -> "firemen")."""
    *first, last = noun.split(" ")
    regular = last[:-2] + "en" if last.endswith("man") else third_person(last)
    return " ".join([*first, irregular.get(last, regular)])


def third_person(verb: str) -> str:
    """Return the third person singular of a verb ("carry" -> "carries"). Nouns form their plural alike."""
    if verb.endswith(("s", "x", "z", "ch", "sh")):
        return verb + "es"
    if verb.endswith("y") and verb[-2] not in VOWELS:
        return verb[:-1] + "ies"
    return verb + "s"


def progressive(verb: str) -> str:
    """Return the -ing form of a verb ("sit" -> "sitting", "lie" -> "lying", "throw" -> "throwing")."""
    if verb.endswith("ie"):
        return verb[:-2] + "ying"
    if verb.endswith("e") and not verb.endswith("ee"):
        return verb[:-1] + "ing"
    closed = len(verb) >= 3 and verb[-1] not in VOWELS + "wxy" and verb[-2] in VOWELS and verb[-3] not in VOWELS
    one_syllable = sum(letter in VOWELS for letter in verb) == 1
    return verb + verb[-1] + "ing" if closed and one_syllable else verb + "ing"
