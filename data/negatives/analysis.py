"""Analysis of a caption: its tokens, with fixed phrases merged, and its noun phrases."""

from dataclasses import dataclass, replace
from functools import cached_property

from .lexicon import VOWELS, Lexicon
from .tagging import NOMINAL, Token


@dataclass(frozen=True)
class Phrase:
    """A noun phrase: the tokens at positions `start` to `end - 1`. The last one is its head."""

    start: int
    end: int

    @property
    def head(self) -> int:
        """Position of the head noun."""
        return self.end - 1


class Analysis:
    """The tokens and noun phrases of one caption, and edits of them.

    Args:
        text (`str`): The caption.
        tokens (`list[Token]`): Its tokens from a tagger.
        lexicon (`Lexicon`): The word lists.
    """

    def __init__(self, text: str, tokens: list[Token], lexicon: Lexicon):
        self.text = text
        self.lexicon = lexicon
        self.tokens = retag_measures(merge_phrases(text, tokens, lexicon), lexicon)
        self.words = [token.text.lower() for token in self.tokens]

    @cached_property
    def phrases(self) -> list[Phrase]:
        """The noun phrases in order. A determiner or a number after a noun starts the next phrase."""
        phrases, start = [], None
        for index in range(len(self.tokens) + 1):
            joins = self.tag(index) in NOMINAL or (start is not None and self._joins_adjectives(index))
            restarts = self.tag(index) in {"DET", "NUM"} and self.tag(index - 1) == "NOUN"
            if start is not None and (not joins or restarts):
                if self.tag(index - 1) == "NOUN":
                    phrases.append(Phrase(start, index))
                start = None
            if joins and start is None:
                start = index
        return phrases

    def _joins_adjectives(self, index: int) -> bool:
        """Return whether a token joins adjectives, like the "and" of "a red and white bus"."""
        return self.words[index : index + 1] in (["and"], [","]) and self.tag(index - 1) == self.tag(index + 1) == "ADJ"

    def tag(self, index: int) -> str:
        """Return the tag at a position: `"END"` at a full stop and after the last token."""
        if index >= len(self.tokens) or self.words[index] in {".", "!"}:
            return "END"
        return self.tokens[index].tag

    def category(self, phrase: Phrase) -> str:
        """Return the category of a phrase's head, or "" if it is not in the lexicon."""
        return self.lexicon.objects.categories.get(self.lexicon.objects.lemma(self.words[phrase.head]), "")

    def elsewhere(self, index: int) -> set[str]:
        """Return every word of the caption except the token at `index`, as written and as a listed noun."""
        others = {word for position, word in enumerate(self.words) if position != index}
        others.update(*(word.split(" ") for word in others if " " in word))
        return others | {self.lexicon.objects.lemma(word) for word in others}

    def is_plural(self, phrase: Phrase) -> bool:
        """Return whether the head is plural: by the lexicon if it has one reading, else by article and ending."""
        head = self.words[phrase.head]
        forms = {form for _, form in self.lexicon.objects.readings.get(head, ())} - {""}
        if len(forms) == 1:
            return forms == {"plural"}
        measures = [index for index in range(phrase.start, phrase.head) if self.words[index] == "of"]
        determiners = self.words[max([phrase.start, *measures]) : phrase.head]
        ends_in_s = head.endswith("s") and not head.endswith("ss")
        return self.lexicon.words["articles"].isdisjoint(determiners) and (bool(forms) or ends_in_s)

    def is_determined(self, phrase: Phrase) -> bool:
        """Return whether the phrase begins with a determiner or a number."""
        return self.tag(phrase.start) in {"DET", "NUM"}

    def edit(self, changes: dict[tuple[int, int], str]) -> str:
        """Return the caption with spans of tokens replaced. Capitals and a preceding a/an are adapted.

        Args:
            changes (`dict[tuple[int, int], str]`): For each span of token positions `(first, last + 1)`, its new text,
                spelt as inside a sentence. Spans do not overlap.

        Returns:
            `str`: The new caption. All other characters are unchanged.
        """
        spans = {}
        for (first, end), new in changes.items():
            spans[self.tokens[first].start, self.tokens[end - 1].end] = new
            if first and self.words[first - 1] in self.lexicon.words["articles"]:
                article = self.tokens[first - 1]
                spans[article.start, article.end] = article_for(new, self.lexicon)
        text = self.text
        for (start, end), new in sorted(spans.items(), reverse=True):
            if self.text.isupper():
                new = new.upper()
            elif self.text[start].isupper():
                new = new[0].upper() + new[1:]
            text = text[:start] + new + text[end:]
        return text

    def spelling(self, first: int, end: int) -> str:
        """Return the text of the tokens from `first` to `end - 1`, spelt as inside a sentence."""
        text = self.text[self.tokens[first].start : self.tokens[end - 1].end]
        common = self.tag(first) in {"DET", "NUM", "ADJ"} or self.words[first] in self.lexicon.objects.readings
        return text[0].lower() + text[1:] if common and not self.text.isupper() else text


def article_for(words: str, lexicon: Lexicon) -> str:
    """Return the indefinite article for some words ("an orange", "a uniform", "an hour")."""
    vowel = words[0].lower() in VOWELS
    misleading = words.lower().startswith(tuple(lexicon.words["not_as_spelt"]))
    return "an" if vowel != misleading else "a"


def merge_phrases(text: str, tokens: list[Token], lexicon: Lexicon) -> list[Token]:
    """Merge each fixed phrase of the lexicon ("in front of", "teddy bears") into one token, longest first."""
    words = [token.text.lower() for token in tokens]
    merged, index = [], 0
    while index < len(tokens):
        length, tag = 1, tokens[index].tag
        for rest, phrase_tag in lexicon.phrases.get(words[index], ()):
            if tuple(words[index + 1 : index + 1 + len(rest)]) == rest:
                length, tag = 1 + len(rest), phrase_tag
                break
        start, end = tokens[index].start, tokens[index + length - 1].end
        merged.append(Token(text[start:end], start, end, tag))
        index += length
    return merged


def retag_measures(tokens: list[Token], lexicon: Lexicon) -> list[Token]:
    """Tag "group of" or "slices of" as determiners, so that the noun after them is the head."""
    tags = [token.tag for token in tokens]
    for index in range(len(tokens) - 1):
        if tokens[index].text.lower() in lexicon.words["measures"] and tokens[index + 1].text.lower() == "of":
            tags[index] = tags[index + 1] = "DET"
    return [replace(token, tag=tag) for token, tag in zip(tokens, tags, strict=True)]
