"""Formats of conversations: the keys of each, and how a record becomes messages with images in their places."""

import re
import reprlib
from itertools import pairwise
from typing import Any, NamedTuple

from .bad_rows import RowProblem
from .hygiene import check_id, storable
from .sources import Source, find_column

IMAGE_MARKER = "<image>"
IMAGE_COLUMNS = ("images", "image")

# A chat template separates images from text by itself, so newlines around images at either end are removed.
_AT_THE_START = re.compile(rf"\A\n?(?:{IMAGE_MARKER}\n?)+")
_AT_THE_END = re.compile(rf"(?:\n?{IMAGE_MARKER})+\n?\Z")

Record = dict[str, Any]
Part = dict[str, Any]  # type, and the text of a text
Message = dict[str, Any]  # role, and content: a list of parts


class Layout(NamedTuple):
    """The keys of a format.

    Args:
        column (`str`): Column of the conversation.
        speaker (`str`): Key of a turn's speaker.
        content (`str`): Key of a turn's content.
        roles (`dict[str, str]`): Role in the chat format of each speaker.
    """

    column: str
    speaker: str
    content: str
    roles: dict[str, str]


LAYOUTS = (
    Layout("messages", "role", "content", {role: role for role in ("system", "user", "assistant")}),
    Layout("conversations", "from", "value", {"system": "system", "human": "user", "gpt": "assistant"}),
)
USED_COLUMNS = {"id", *IMAGE_COLUMNS, *(layout.column for layout in LAYOUTS)}


class ConversationRow(NamedTuple):
    """One conversation and its images.

    Args:
        images (`list[str | None]`): File names. None if the source stores the picture itself.
        messages (`list[dict]`): The turns in the chat format.
        id (`str`, *optional*): Id of the row.
    """

    images: list[str | None]
    messages: list[Message]
    id: str | None


def text_part(text: str) -> Part:
    """Return a text as a part of a message."""
    return {"type": "text", "text": text}


def image_part() -> Part:
    """Return the place of an image as a part of a message.

    Its text is None, so that all parts have one Arrow type.
    """
    return {"type": "image", "text": None}


def choose_layout(source: Source) -> Layout:
    """Recognise the layout of a source by its columns.

    Raises:
        ValueError: If the source has neither `messages` nor `conversations`. The message lists its columns.
    """
    column = find_column(source, [layout.column for layout in LAYOUTS])
    return next(layout for layout in LAYOUTS if layout.column == column)


def choose_image_column(source: Source) -> str | None:
    """Return the column that stores or names the images of a source, or None if it has no such column.

    Raises:
        ValueError: If the source has both `images` and `image`.
    """
    found = [column for column in IMAGE_COLUMNS if column in source.columns]
    if len(found) == 2:
        raise ValueError(f"{source.name} has both columns 'images' and 'image'; remove one of them")
    return found[0] if found else None


def read_conversation(record: Record, layout: Layout, images: list[str | None]) -> ConversationRow:
    """Check a record and convert its turns into the Hub's chat format.

    Args:
        record (`dict`): A record with values of any type.
        layout (`Layout`): The keys of its conversation.
        images (`list[str | None]`): The images of the record.

    Returns:
        `ConversationRow`: As many image parts as images, all of them in turns of the user.

    Raises:
        RowProblem: If a value has the wrong type, or the conversation cannot be used for training.
    """
    check_id(record.get("id"))
    turns = record.get(layout.column)
    if not isinstance(turns, list):
        raise RowProblem(f"{layout.column} is not a list", reprlib.repr(turns))
    messages = [_message(turn, layout) for turn in turns]
    _check_order([message["role"] for message in messages])
    marked = sum(map(_count_images, messages))
    if images and not marked:
        # A list of parts is explicit. Plain text may leave out the markers of images that come first.
        first = next(index for index, message in enumerate(messages) if message["role"] == "user")
        if isinstance(turns[first][layout.content], str):
            messages[first]["content"][:0] = [image_part() for _ in images]
            marked = len(images)
    if marked != len(images):
        raise RowProblem("image markers and images differ in number", f"{marked} and {len(images)}")
    for message in messages:
        _check_content(message)
    return ConversationRow(images, messages, None if record.get("id") is None else storable(str(record["id"])))


def read_image_names(value: Any) -> list[str]:
    """Return the image names of a cell that holds a name, a list of names, or nothing."""
    names = [] if value is None else [value] if isinstance(value, str) else value
    if not isinstance(names, list):
        raise RowProblem("image is neither a file name nor a list of them", reprlib.repr(value))
    for name in names:
        if not isinstance(name, str):
            raise RowProblem("image is not a file name", reprlib.repr(name))
        storable(name)
    return names


def _message(turn: Any, layout: Layout) -> Message:
    """Map one turn to a message."""
    if not isinstance(turn, dict):
        raise RowProblem("turn is not an object", reprlib.repr(turn))
    speaker, content = turn.get(layout.speaker), turn.get(layout.content)
    if not isinstance(speaker, str) or speaker not in layout.roles:
        raise RowProblem("unknown speaker", f"{reprlib.repr(speaker)}, not one of {', '.join(layout.roles)}")
    if isinstance(content, str):
        parts = _split(content)
    elif isinstance(content, list):
        parts = [part for given in content for part in _parts(given)]
    else:
        raise RowProblem("content is neither text nor a list of parts", reprlib.repr(content))
    return {"role": layout.roles[speaker], "content": parts}


def _split(text: str) -> list[Part]:
    """Split a text at its image markers."""
    for at_an_end in (_AT_THE_START, _AT_THE_END):
        text = at_an_end.sub(lambda found: found[0].replace("\n", ""), text)
    pieces = re.split(f"({IMAGE_MARKER})", storable(text))
    return [image_part() if piece == IMAGE_MARKER else text_part(piece) for piece in pieces if piece]


def _parts(given: Any) -> list[Part]:
    """Check one part of a content. Arrow may have added the keys of other parts, with None."""
    stated = {key: value for key, value in given.items() if value is not None} if isinstance(given, dict) else {}
    kind, text = stated.get("type"), stated.get("text")
    if kind == "text" and isinstance(text, str):
        return _split(text)
    # An `index` only repeats the order of the images. A name or bytes belong in the image column.
    if kind == "image" and not text and stated.keys() <= {"type", "text", "index"}:
        return [image_part()]
    raise RowProblem("part is neither text nor the place of an image", reprlib.repr(given))


def _check_order(roles: list[str]) -> None:
    """Check the order of speakers: each answer follows a question, and only the first turn may be the system's."""
    if "assistant" not in roles:
        raise RowProblem("no assistant turn")
    if "system" in roles[1:]:
        raise RowProblem("system turn after the first")
    for before, role in pairwise(["system", *roles]):
        if role == "assistant" and before == "system":
            raise RowProblem("conversation starts with the assistant")
        if role == before == "assistant":
            raise RowProblem("two assistant turns in a row")


def _check_content(message: Message) -> None:
    """Check that answers have words and that only the user shows images."""
    if message["role"] != "user" and _count_images(message):
        raise RowProblem("image outside the user's turns", f"in a turn of the {message['role']}")
    if message["role"] == "assistant" and not any(part["text"].strip() for part in message["content"]):
        raise RowProblem("empty assistant text")


def _count_images(message: Message) -> int:
    """Count the places of images in a message."""
    return sum(part["type"] == "image" for part in message["content"])
