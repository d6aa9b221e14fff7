"""The word lists behind the rules: which word may stand for which, and in what surroundings."""

import json
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path

VOWELS = "aeiou"


@dataclass(frozen=True)
class Alternative:
    """A word that may replace another one.

    Args:
        word (`str`): The replacement, uninflected.
        rivals (`frozenset[str]`): Words that must not stand elsewhere in the caption: beside them the new caption
            could be true (synonyms and narrower words of the replacement) or incoherent (a pronoun for the old word).
        of (`frozenset[str]`, *optional*): Categories of the noun it belongs to: what an attribute describes, the object
            of a relation, the subject of an action. `None` allows any.
        before (`frozenset[str]`, *optional*): Words or tags of which the next token must be one (`"END"`: nothing).
    """

    word: str
    rivals: frozenset[str]
    of: frozenset[str] | None
    before: frozenset[str] | None


class Family:
    """One part of the lexicon (objects, attributes, relations or actions) with its inflected forms.

    Args:
        groups (`list[dict]`): Groups as in `lexicon.json`. `sets` holds alternatives that exclude each other: the word
            to use first, then its synonyms and narrower words, and behind a slash the words that give it away
            (pronouns, "bearded"). `instead`, where given, is used in place of the other sets: things that rarely share
            a picture with a member, for groups whose members often do.
        inflections (`dict[str, Callable[[str], str]]`): Name of a form -> function from the listed word to that form.
        coherent (`bool`): Whether a second mention of the replaced word, or a pronoun for it, forbids the replacement.
    """

    def __init__(self, groups: list[dict], inflections: dict[str, Callable[[str], str]], coherent: bool = False):
        self.inflections = inflections
        self.alternatives: dict[str, list[Alternative]] = defaultdict(list)
        self.categories: dict[str, str] = {}
        self.readings: dict[str, list[tuple[str, str]]] = defaultdict(list)
        synonyms: dict[str, set[str]] = defaultdict(set)
        for group in groups:
            for words, telling in map(split_entry, group["sets"]):
                for word in words:
                    synonyms[word].update(words, telling)
                    self.categories.setdefault(word, group.get("category", ""))
                    self._add_forms(word, group.get("inflected", True))
        for group in groups:
            sets = [split_entry(entry) for entry in group["sets"]]
            for words, telling in sets:
                targets = {others[0]: {*others, *also} for others, also in sets if others is not words}
                if "instead" in group:
                    targets = {word: {word, *synonyms[word]} for word in group["instead"]}
                for target, rivals in targets.items():
                    alternative = Alternative(
                        word=target,
                        rivals=frozenset(rivals.union(words, telling) if coherent else rivals),
                        of=frozenset(group["of"]) if "of" in group else None,
                        before=frozenset(group["before"]) if "before" in group else None,
                    )
                    for word in words:
                        self.alternatives[word].append(alternative)

    def _add_forms(self, word: str, inflected: bool) -> None:
        """Index every form of a word; a form that reads two ways ("sheep") keeps both."""
        for form, inflect in self.inflections.items() if inflected else [("", str)]:
            if (word, form) not in self.readings[inflect(word)]:
                self.readings[inflect(word)].append((word, form))

    def inflect(self, word: str, form: str) -> str:
        """The given form of a listed word; `""` is the word as it is listed."""
        return self.inflections[form](word) if form else word

    def lemma(self, text: str) -> str:
        """The listed word of which a lower-cased text is a form, or else the text itself."""
        readings = self.readings.get(text)
        return readings[0][0] if readings else text


class Lexicon:
    """Everything in `lexicon.json`, indexed by word.

    Args:
        content (`dict`): The parsed file.
    """

    def __init__(self, content: dict):
        numbers = {"singular": str, "plural": partial(plural, irregular=content["irregular_plurals"])}
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
        """Index the entries of several words by their first word, the longest first."""
        for phrase in phrases:
            first, *rest = phrase.split(" ")
            if rest:
                self.phrases[first].append((tuple(rest), tag))
                self.phrases[first].sort(key=lambda entry: -len(entry[0]))


@cache
def load_lexicon() -> Lexicon:
    """The lexicon that ships with the package, read once."""
    return Lexicon(json.loads(Path(__file__).with_name("lexicon.json").read_text(encoding="utf-8")))


def split_entry(entry: str) -> tuple[list[str], list[str]]:
    """The words of a set, and those that give it away ("man|guy / he|his")."""
    words, _, telling = entry.partition(" / ")
    return words.split("|"), telling.split("|") if telling else []


def plural(noun: str, irregular: dict[str, str]) -> str:
    """Plural of a noun, of whose words the last changes ("stop sign" -> "stop signs", "fireman" -> "firemen")."""
    *first, last = noun.split(" ")
    regular = last[:-2] + "en" if last.endswith("man") else third_person(last)
    return " ".join([*first, irregular.get(last, regular)])


def third_person(verb: str) -> str:
    """Third person singular of a verb ("carry" -> "carries"); nouns form their plural alike."""
    if verb.endswith(("s", "x", "z", "ch", "sh")):
        return verb + "es"
    if verb.endswith("y") and verb[-2] not in VOWELS:
        return verb[:-1] + "ies"
    return verb + "s"


def progressive(verb: str) -> str:
    """The -ing form of a verb ("sit" -> "sitting", "lie" -> "lying", "throw" -> "throwing")."""
    if verb.endswith("ie"):
        return verb[:-2] + "ying"
    if verb.endswith("e") and not verb.endswith("ee"):
        return verb[:-1] + "ing"
    closed = len(verb) >= 3 and verb[-1] not in VOWELS + "wxy" and verb[-2] in VOWELS and verb[-3] not in VOWELS
    one_syllable = sum(letter in VOWELS for letter in verb) == 1
    return verb + verb[-1] + "ing" if closed and one_syllable else verb + "ing"
