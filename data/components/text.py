"""Components of captions: noun phrases with their attributes, and phrases that relate two of them."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache

from ..negatives.analysis import Analysis, Phrase, merge_phrases
from ..negatives.lexicon import Lexicon, load_lexicon
from ..negatives.tagging import PHRASE_ENDS, TextBlobTagger, Token
from .rows import CaptionComponents

Parser = Callable[[str], CaptionComponents]


def word_set(text: str) -> frozenset[str]:
    """Return the words of a line."""
    return frozenset(text.split())


# Nouns for which no box could be drawn.
NO_THINGS = word_set(
    "air area areas background back bottom center centre close color colors corner day daytime direction distance edge "
    "end foreground front game half inside left lot lots middle motion next night nothing other others outside part "
    "place position right shape side sides size something space style time top trick tricks type variety view way ways"
)
# Names that a caption gives its own image ("a picture of a dog"), if one of `SHOWS` follows.
PICTURES = word_set("close-up closeup image photo photograph picture portrait scene shot")
SHOWS = word_set("of with showing that where in")
VAGUE = word_set("lot lots number variety assortment couple type types kind kinds sort")
BREAKS = word_set(", ; : - and or but while as when where")
CLAUSES = word_set("; but while as when where")
JOINS = word_set(", and or")
UNCHANGED = word_set("cut hit lay let put set shut")  # verbs whose past or participle looks like their base form
BE = word_set("is are was were")
MORE_COLOURS = word_set("aqua cyan indigo khaki magenta")  # the lexicon lists only colours that exclude each other
RELATIVES = word_set("that which who")
ACTORS = word_set("person animal vehicle")


def extract(captions: Sequence[str], parser: Parser | None = None) -> list[CaptionComponents]:
    """Find the entities and relations of captions.

    Args:
        captions (`Sequence[str]`): True or negative captions, in English.
        parser (`Callable[[str], CaptionComponents]`, *optional*): Default: [`ChunkParser`], which needs no download.
            [`SpacyParser`] follows a dependency parse.

    Returns:
        `list[CaptionComponents]`: For each caption its distinct entities and relations in order of appearance. Either
        list may be empty.

    Example:

        >>> (caption,) = extract(["A brown dog chases a ball on the grass."])
        >>> caption.entities
        ['brown dog', 'ball', 'grass']
        >>> caption.relations
        ['brown dog chases a ball', 'ball on the grass']
    """
    parser = default_parser() if parser is None else parser
    return [parser(caption) for caption in captions]


@cache
def default_parser() -> "ChunkParser":
    """Return the default parser, built once."""
    return ChunkParser()


class ChunkParser:
    """Parser by word classes, with the lexicon of the negatives: noun phrases, and the words that link them.

    An entity is a noun phrase without its determiner. A relation is a verb, a preposition or both between two noun
    phrases. Its subject is the nearest phrase before it, with two exceptions: a verb looks for a phrase that can act
    ("a man with a bat hitting a ball"), and joined phrases share the relation ("a cat and a dog on a bed").
    Prepositional phrases always attach to the nearest phrase, so "a man eating pizza with a fork" gives "pizza with a
    fork".

    Args:
        tagger (`Callable[[str], list[Token]]`, *optional*): Part-of-speech tagger. Default: [`TextBlobTagger`].
    """

    def __init__(self, tagger: Callable[[str], list[Token]] | None = None):
        self.tagger = TextBlobTagger() if tagger is None else tagger
        self.lexicon = load_lexicon()
        self.settings = {"kind": "chunks", "tagger": type(self.tagger).__name__}

    def __call__(self, caption: str) -> CaptionComponents:
        """Return the components of one caption."""
        tokens = merge_phrases(caption, self.tagger(caption), self.lexicon)
        analysis = Analysis(caption, retagged(tokens, self.lexicon), self.lexicon)
        phrases = things(analysis)
        entities = [bare(analysis, phrase) for phrase in phrases if analysis.words[phrase.start] != "no"]
        relations = [
            f"{bare(analysis, subject)} {link} {words(analysis, target.start, target.end)}"
            for subject, link, target in links(analysis, phrases)
        ]
        return CaptionComponents(caption, list(dict.fromkeys(entities)), list(dict.fromkeys(relations)))


def retagged(tokens: list[Token], lexicon: Lexicon) -> list[Token]:
    """Correct those tags whose errors would lose whole phrases, from left to right."""
    texts = [token.text.lower() for token in tokens]
    tags = ["END" if text in {".", "!"} else token.tag for text, token in zip(texts, tokens, strict=True)]
    for index in range(len(tokens)):
        tags[index] = retag(texts, tags, index, lexicon)
    return [replace(token, tag=tag) for token, tag in zip(tokens, tags, strict=True)]


def retag(texts: list[str], tags: list[str], index: int, lexicon: Lexicon) -> str:
    """Return the corrected tag of a word. The tags before it are corrected already, those after it are not."""
    word, tag = texts[index], tags[index]
    before, after = tags[index - 1] if index else "START", [*tags, "END"][index + 1]
    participle, described = word.endswith(("ing", "ed")), before in {"DET", "ADJ", "NUM"}
    if tag == "NOUN" and word in MORE_COLOURS and after in {"NOUN", "VERB", "ADJ"}:
        return "ADJ"  # "a cyan cross"
    if tag == "NOUN" and described and word in lexicon.attributes.readings and is_base(texts[index + 1 :], lexicon):
        return "ADJ"  # "an orange cross"
    if tag == "VERB" and described and after == "VERB" and word.endswith("ed"):
        return "ADJ"  # "a dotted cross"
    if tag == "VERB" and before == "ADJ" and not participle:
        return "NOUN"
    if tag == "ADJ" and described and not participle and not describes(texts, tags, index):
        return "NOUN"  # "on a wooden platter", "a yellow key and a card"
    if tag == "NOUN" and before in {"NOUN", "VERB"} and after in PHRASE_ENDS and word.endswith("ing"):
        return tag if word in lexicon.objects.readings else "VERB"  # "people skiing down a hill"
    return tag


def is_base(texts: list[str], lexicon: Lexicon) -> bool:
    """Return whether the first word is a verb's base form, which follows no singular subject."""
    readings = lexicon.actions.readings.get(texts[0], ()) if texts else ()
    return any(form == "base" for _, form in readings) and texts[0] not in UNCHANGED


def describes(texts: list[str], tags: list[str], index: int) -> bool:
    """Return whether an adjective has something to describe: a noun after it, or after others that it is joined to."""
    for following in range(index + 1, len(tags)):
        if texts[following] not in JOINS:
            return tags[following] not in {"ADP", "DET", "END"} and texts[following] not in {*BE, "there"}
    return False


def words(caption: Analysis, start: int, end: int) -> str:
    """Write the tokens from `start` to `end - 1` in lower case, with single spaces."""
    text = caption.text[caption.tokens[start].start : caption.tokens[end - 1].end]
    return " ".join(text.lower().split())


def bare(caption: Analysis, phrase: Phrase) -> str:
    """Write a noun phrase without its determiners and without "a lot of"."""
    start = phrase.start
    while start < phrase.head:
        word = caption.words[start]
        if word in VAGUE and caption.words[start + 1] == "of" and start + 2 < phrase.end:
            start += 2
        elif word in caption.lexicon.words["determiners"]:
            start += 1
        else:
            break
    return words(caption, start, phrase.end)


def things(caption: Analysis) -> list[Phrase]:
    """Return the noun phrases that name something visible."""

    def is_thing(phrase: Phrase) -> bool:
        head, following = caption.words[phrase.head], caption.words[phrase.end : phrase.end + 1]
        frame = head in PICTURES and phrase is caption.phrases[0] and not SHOWS.isdisjoint(following)
        last = phrase.head - 1
        named = last >= phrase.start and caption.tag(last) == "NOUN" and caption.words[last] not in NO_THINGS
        return (named or head not in NO_THINGS) and not frame  # "a parking space" is a thing, "the left side" is not

    return [phrase for phrase in caption.phrases if is_thing(phrase)]


def links(caption: Analysis, phrases: list[Phrase]) -> list[tuple[Phrase, str, Phrase]]:
    """Return the relations between phrases of a caption as (subject, words between, object)."""
    found: list[tuple[Phrase, str, Phrase]] = []
    group = clause = phrases[:1]  # phrases joined to the one before the link; phrases that begin the clause
    for index, target in enumerate(phrases[1:], start=1):
        before = phrases[index - 1]
        gap = range(before.end, target.start)
        if only_joins(caption, gap):
            found += shared_object(caption, found, before, phrases, index)
            clause = [*group, target] if clause == group else clause
            group = [*group, target]
            continue
        if fronted(caption, before, gap, index):
            found.append((target, words(caption, 0, before.start), before))
            group = clause = [target]
            continue
        link, broken = predicate(caption, gap)
        if link:
            text = " ".join(words(caption, position, position + 1) for position in link)
            if broken and caption.tag(link[0]) == "ADP":
                subjects = [subject for subject, _, other in found if other == before]
            elif caption.words[gap[0]] in BE:
                subjects = clause
            elif caption.words[gap[0]] in RELATIVES:
                subjects = group
            elif caption.tag(link[0]) == "VERB" and not caption.words[link[0]].endswith("ed"):
                subjects = actors(caption, group, phrases[:index], clause if broken else group)
            else:
                subjects = [before] if text == "of" else group
            found += [(subject, text, target) for subject in subjects]
        group = [target]
        if not CLAUSES.isdisjoint(caption.words[position] for position in gap):
            clause = group
    return found


def fronted(caption: Analysis, before: Phrase, gap: range, index: int) -> bool:
    """Return whether a caption begins with a place ("above a star there is a cat")."""
    if index != 1 or not before.start or any(caption.tag(position) != "ADP" for position in range(before.start)):
        return False
    following = [caption.words[position] for position in gap]
    return following[:1] == [","] or "there" in following


def only_joins(caption: Analysis, gap: range) -> bool:
    """Return whether the words between two phrases only join them ("a cat, a dog and a bird")."""
    return len(gap) > 0 and all(caption.words[position] in {",", "and", "or", "&"} for position in gap)


def shared_object(
    caption: Analysis, found: list[tuple[Phrase, str, Phrase]], before: Phrase, phrases: list[Phrase], index: int
) -> list[tuple[Phrase, str, Phrase]]:
    """Return the relations that a joined phrase shares ("a table with a cup and a plate") if it has no own relation."""
    if index + 1 < len(phrases):
        gap = range(phrases[index].end, phrases[index + 1].start)
        if not only_joins(caption, gap) and predicate(caption, gap)[0]:
            return []
    return [(subject, link, phrases[index]) for subject, link, target in found if target == before]


def predicate(caption: Analysis, gap: range) -> tuple[list[int], bool]:
    """Return the positions of the verb or preposition between two phrases, and whether a break precedes it.

    There are no positions if the phrases are unrelated. Words before an "and", a "while" or a comma belong to the first
    phrase. ", with" starts anew, so it does not relate its two neighbours.
    """
    breaks = [position for position in gap if caption.words[position] in BREAKS]
    link = [position for position in gap if not breaks or position > breaks[-1]]
    auxiliaries = caption.lexicon.words["auxiliaries"]
    while link and (caption.words[link[0]] in RELATIVES or (len(link) > 1 and caption.words[link[0]] in auxiliaries)):
        link = link[1:]
    spoken = [position for position in link if caption.tag(position) in {"VERB", "ADP"}]
    if not spoken or caption.words[link[0]] in BE:
        return [], bool(breaks)
    if breaks and caption.words[link[0]] == "with":
        return [], True
    return link[link.index(spoken[0]) :], bool(breaks)


def actors(caption: Analysis, group: list[Phrase], before: list[Phrase], otherwise: list[Phrase]) -> list[Phrase]:
    """Return the subjects of a verb: the phrases joined before it if one can act, else the last phrase that can."""
    if any(caption.category(phrase) in ACTORS for phrase in group):
        return group
    able = [phrase for phrase in before if caption.category(phrase) in ACTORS]
    return able[-1:] or otherwise
