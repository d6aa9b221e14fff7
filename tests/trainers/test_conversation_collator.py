"""Only the assistant's tokens are supervised, whatever the processor makes of a conversation and its images."""

import logging
from functools import cache

import datasets
import numpy as np
import pytest
import tiny_multimodal as tiny
import torch
from PIL import Image
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
from tokenizers.trainers import BpeTrainer
from torch.utils.data import DataLoader
from transformers import (
    Gemma3ImageProcessorPil,
    Gemma3Processor,
    Idefics3ImageProcessorPil,
    Idefics3Processor,
    LlavaOnevisionImageProcessorPil,
    LlavaOnevisionProcessor,
    PreTrainedTokenizerFast,
    Qwen2VLImageProcessorPil,
    Qwen2VLProcessor,
)

from compalign.data.chat.encoder import ConversationEncoder
from compalign.trainers.blank_image import blank_conversation, model_inputs
from compalign.trainers.cal_rows import (
    ConversationCollator,
    ConversationRows,
    concatenate_padded,
    count_images,
    join_rows,
)

IGNORED = -100
NOISE = np.random.default_rng(0).integers(0, 256, (4, 40, 72, 3), dtype=np.uint8)
PHOTOGRAPHS = [Image.fromarray(pixels[: 24 + 4 * index, : 72 - 12 * index]) for index, pixels in enumerate(NOISE)]

SPECIAL_TOKENS = [
    "<pad>",
    "<s>",
    "</s>",
    "<|im_start|>",
    "<|im_end|>",
    "<image>",
    "<video>",
    "<boi>",
    "<eoi>",
    "<soft>",
]

# ChatML as Qwen2-VL's; the two others put what their processors need around it.
CHATML = (
    "{% for message in messages %}{{ '<|im_start|>' + message.role + '\n' }}{% for part in message.content %}"
    "{{ IMAGE if part.type == 'image' else part.text }}{% endfor %}{{ '<|im_end|>\n' }}{% endfor %}"
    "{{ '<|im_start|>assistant\n' if add_generation_prompt }}"
)
# Idefics3's: words, and an end token at the end of every turn.
IDEFICS = (
    "<s>{% for message in messages %}{{ message.role | capitalize }}"
    "{{ ':' if message.content[0].type == 'image' else ': ' }}{% for part in message.content %}"
    "{{ '<image>' if part.type == 'image' else part.text }}{% endfor %}{{ '<end_of_utterance>\n' }}{% endfor %}"
    "{{ 'Assistant:' if add_generation_prompt }}"
)


@pytest.fixture(autouse=True)
def _one_thread():
    torch.set_num_threads(1)


def chatml(image):
    """ChatML with what stands for an image."""
    return CHATML.replace("IMAGE", repr(image))


def byte_level_tokenizer(**roles):
    """A tokenizer that leaves no character out, merges newlines, and begins every text with <s>."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = BpeTrainer(
        vocab_size=400,
        special_tokens=SPECIAL_TOKENS,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(["What is it? A red circle.\n\n", "one\n\n\n", "two\n"] * 20, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A", special_tokens=[("<s>", SPECIAL_TOKENS.index("<s>"))]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", pad_token="<pad>", extra_special_tokens=roles
    )


def without_video(processor_class):
    """The processor without its video half, which needs torchvision."""
    return type(
        processor_class.__name__,
        (processor_class,),
        {"get_attributes": classmethod(lambda cls: ["image_processor", "tokenizer"])},
    )


@cache
def make_processor(family):
    """A real processor with a small tokenizer and small images."""
    square = {"height": 16, "width": 16}
    if family == "idefics3":  # tiles between further tokens and newlines
        images = Idefics3ImageProcessorPil(size={"longest_edge": 32}, max_image_size={"longest_edge": 16})
        return Idefics3Processor(images, byte_level_tokenizer(), image_seq_len=4, chat_template=IDEFICS)
    if family == "gemma3":  # newlines around the image that merge with those of the text
        roles = {"image_token": "<soft>", "boi_token": "<boi>", "eoi_token": "<eoi>"}
        images, tokenizer = Gemma3ImageProcessorPil(size=square), byte_level_tokenizer(**roles)
        return Gemma3Processor(images, tokenizer, image_seq_length=5, chat_template="<s>" + chatml("<boi>"))
    roles = {"image_token": "<image>", "video_token": "<video>"}
    if family == "qwen2_vl":  # patches of all images in a row
        images = Qwen2VLImageProcessorPil(patch_size=8, size={"shortest_edge": 256, "longest_edge": 1024})
        processor_class = without_video(Qwen2VLProcessor)
        return processor_class(images, byte_level_tokenizer(**roles), chat_template=chatml("<image>"))
    if family == "llava_onevision":  # an image alone has more tokens than one of several
        images = LlavaOnevisionImageProcessorPil(size=square, image_grid_pinpoints=[[16, 32], [32, 16], [32, 32]])
        return without_video(LlavaOnevisionProcessor)(
            images,
            byte_level_tokenizer(**roles),
            num_image_tokens=4,
            vision_feature_select_strategy="full",
            chat_template=chatml("<image>"),
        )
    return tiny.make_processor(family)


END_TOKENS = {
    "llava": "</s>",
    "llava_next": "</s>",
    "idefics3": "<end_of_utterance>",
    "gemma3": "<|im_end|>",
    "qwen2_vl": "<|im_end|>",
    "llava_onevision": "<|im_end|>",
}
FAMILIES = list(END_TOKENS)


def image_token_ids(processor):
    """What stands in the place of image features."""
    return processor.image_token_ids


def say(role, text, images=0):
    """A message as `load_conversations` gives it, its images first."""
    return {
        "role": role,
        "content": [{"type": "image", "text": None}] * images + [{"type": "text", "text": text}],
    }


def talk(*words, images=0, system=None):
    """A row whose words are the user's and the assistant's in turn; the images come in the first turn."""
    messages = [] if system is None else [say("system", system)]
    for place, text in enumerate(words):
        messages.append(say(("user", "assistant")[place % 2], text, images if place == 0 else 0))
    return {"images": PHOTOGRAPHS[:images], "messages": messages, "id": "a"}


ROWS = {
    "one answer": talk("What is it?", "A red circle.", images=1),
    "several turns": talk("What is it?", "A red circle.", "And where?", "left of it", "Sure?", "Yes", images=1),
    "system prompt": talk("What is it?", "A red circle.", system="Be brief.", images=1),
    "several images": talk("Which is red?", "The first is.", images=3),
    "images between answers": {
        "images": PHOTOGRAPHS[:3],
        "messages": [
            say("user", "What is it?", 1),
            say("assistant", "one"),
            say("user", "And these?", 2),
            say("assistant", "two"),
            say("user", "So?"),
            say("assistant", "What is it?"),
        ],
    },
    "text only": talk("Hello", "Good day."),
    "answers like prompts": talk("one", "one", "What is it?", "What is it?", images=1),
}


def encode(family, row, **settings):
    """A row as the model reads it."""
    processor = make_processor(family)
    return ConversationEncoder(processor, image_token_ids(processor), **settings)(row)


def make_batch(family, rows, **settings):
    """The batch of these rows."""
    processor = make_processor(family)
    encoder = ConversationEncoder(processor, image_token_ids(processor), **settings)
    indexed = ConversationRows(rows, encoder, on_bad_row="raise")
    return ConversationCollator(processor)([indexed[index] for index in range(len(rows))])


def answers_of(row):
    """What the assistant says."""
    return [message["content"][0]["text"] for message in row["messages"] if message["role"] == "assistant"]


def supervised_texts(processor, labels):
    """The texts of the runs of supervised tokens."""
    runs, run = [], []
    for label in [*labels.tolist(), IGNORED]:
        if label != IGNORED:
            run.append(label)
        elif run:
            runs.append(processor.tokenizer.decode(run).strip(" "))
            run = []
    return runs


@pytest.mark.parametrize("kind", ROWS)
@pytest.mark.parametrize("family", FAMILIES)
def test_answers_and_their_end_tokens_are_supervised_and_nothing_else_is(family, kind):
    row = ROWS[kind]
    encoded = encode(family, row)
    found = supervised_texts(make_processor(family), encoded["labels"][0])
    assert found == [answer + END_TOKENS[family] for answer in answers_of(row)]
    supervised = encoded["labels"] != IGNORED
    assert torch.equal(encoded["labels"][supervised], encoded["input_ids"][supervised])
    assert encoded["labels"].shape == encoded["input_ids"].shape == encoded["attention_mask"].shape


@pytest.mark.parametrize("family", ["idefics3", "gemma3", "qwen2_vl", "llava_onevision"])
def test_newlines_beside_images_and_in_answers_are_not_mixed_up(family):
    row = talk("\nOne\n\n", "one\n\n\ntwo\n", "What\n\n?", "no\n\n", images=2)
    labels = encode(family, row)["labels"][0]
    assert supervised_texts(make_processor(family), labels) == [text + END_TOKENS[family] for text in answers_of(row)]


@pytest.mark.parametrize("family", FAMILIES)
def test_a_batch_is_what_the_processor_makes_of_all_rows_at_once(family):
    processor = make_processor(family)
    rows = [ROWS[kind] for kind in ("one answer", "several images", "several turns", "images between answers")]
    batch = make_batch(family, rows)
    texts = [processor.apply_chat_template(row["messages"]) for row in rows]
    expected = processor(
        text=texts,
        images=[row["images"] for row in rows],
        padding=True,
        padding_side="right",
        add_special_tokens=not texts[0].startswith("<s>"),
        return_tensors="pt",
    )
    assert set(batch) == {*expected, "labels", "row"}
    for name, value in expected.items():
        assert batch[name].dtype == value.dtype, name
        assert torch.equal(batch[name], value), name
    assert batch["row"].tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize("family", FAMILIES)
def test_a_row_is_the_same_in_any_company(family):
    rows = [ROWS[kind] for kind in ("text only", "several turns", "one answer")]
    batch = make_batch(family, rows)
    padding = {"input_ids": make_processor(family).tokenizer.pad_token_id, "labels": IGNORED}
    for place, row in enumerate(rows):
        alone = encode(family, row)
        length = alone["input_ids"].shape[1]
        for name in [name for name, value in alone.items() if value is not False and value.shape[:2] == (1, length)]:
            assert torch.equal(batch[name][place, :length], alone[name][0]), name
            assert (batch[name][place, length:] == padding.get(name, 0)).all(), name


@pytest.mark.parametrize("family", FAMILIES)
def test_a_batch_of_text_has_no_pixels(family):
    batch = make_batch(family, [ROWS["text only"], talk("Who?", "I")])
    assert not {name for name in batch if "pixel" in name or "image" in name}
    assert batch["input_ids"].shape == batch["labels"].shape
    assert len(batch["input_ids"]) == 2


@pytest.mark.parametrize("family", ["llava", "llava_next"])
def test_the_model_takes_a_mixed_batch(family):
    rows = [ROWS[kind] for kind in ("text only", "several images", "several turns")]
    batch = make_batch(family, rows)
    del batch["row"]
    outputs = tiny.make_model(family)(**batch)
    assert outputs.loss.isfinite()
    expected = torch.nn.functional.cross_entropy(outputs.logits[:, :-1].flatten(0, 1), batch["labels"][:, 1:].flatten())
    assert torch.allclose(outputs.loss, expected)


def test_an_image_token_is_never_supervised():
    processor = make_processor("llava")
    red = processor.tokenizer.convert_tokens_to_ids("▁red")
    row = talk("What is it?", "a red circle", images=1)
    labels = ConversationEncoder(processor, [tiny.IMAGE, red])(row)["labels"][0]
    assert supervised_texts(processor, labels) == ["a", "circle</s>"]


# Chat templates


def with_template(family, template):
    """The family's processor with another chat template."""
    processor = tiny.make_processor(family)
    processor.chat_template = template
    return processor


def test_a_template_without_an_end_token_is_warned_of_once(caplog):
    template = tiny.CHAT_TEMPLATE.replace("words + eos_token", "words + ' '")
    processor = with_template("llava", template)
    with caplog.at_level(logging.WARNING):
        encoder = ConversationEncoder(processor, [tiny.IMAGE])
        for _ in range(3):
            labels = encoder(ROWS["several turns"])["labels"][0]
    (record,) = caplog.records
    assert "' Four.'" in record.message
    assert "will not learn to stop" in record.message
    assert "</s>" in record.message
    assert supervised_texts(processor, labels) == answers_of(ROWS["several turns"])  # no space behind, no next prompt


def test_a_template_with_an_end_token_is_not_warned_of(caplog):
    for family in FAMILIES:
        ConversationEncoder(make_processor(family), [0])
    assert not caplog.records


def test_a_template_whose_text_changes_as_the_conversation_goes_on_is_refused():
    template = tiny.CHAT_TEMPLATE.replace("words + eos_token", "words + eos_token if loop.last else eos_token")
    with pytest.raises(ValueError, match="the chat template renders no prefixes"):
        ConversationEncoder(with_template("llava", template), [tiny.IMAGE])


def test_a_prompt_that_ends_with_a_space_shares_a_token_with_the_answer():
    template = tiny.CHAT_TEMPLATE.replace("'ASSISTANT:' if", "'ASSISTANT: ' if")
    processor = with_template("llava", template)
    labels = ConversationEncoder(processor, [tiny.IMAGE])(ROWS["several turns"])["labels"][0]
    assert supervised_texts(processor, labels) == [answer + "</s>" for answer in answers_of(ROWS["several turns"])]


def test_a_template_may_tell_images_from_texts_by_their_keys():
    template = tiny.CHAT_TEMPLATE.replace("if part.type == 'image'", "if 'text' not in part")
    found = ConversationEncoder(with_template("llava", template), [tiny.IMAGE])(ROWS["several images"])
    assert torch.equal(found["input_ids"], encode("llava", ROWS["several images"])["input_ids"])


@pytest.mark.parametrize("family", ["qwen2_vl", "idefics3"])
def test_a_text_begins_once(family):
    """Here one template leaves <s> to the tokenizer, the other writes it."""
    tokens = encode(family, ROWS["one answer"])["input_ids"][0]
    start = make_processor(family).tokenizer.bos_token_id
    assert tokens[0] == start
    assert (tokens == start).sum() == 1


# Rows that cannot be used

BAD_ROWS = {
    "too few images": ({**talk("What?", "It", images=2), "images": PHOTOGRAPHS[:1]}, "the text shows 2, the row has 1"),
    "too many images": ({**talk("What?", "It"), "images": PHOTOGRAPHS[:1]}, "the text shows 0, the row has 1"),
    "the image token as text": (talk("What is <image>?", "It"), "the text shows 1, the row has 0"),
    "an image within an answer": (
        {
            "images": PHOTOGRAPHS[:1],
            "messages": [
                say("user", "Draw"),
                {"role": "assistant", "content": say("assistant", "here")["content"] + say("", "it is", 1)["content"]},
            ],
        },
        "answer lost",
    ),
    "the assistant first": ({"images": [], "messages": [say("assistant", "Hello")]}, "answer without a question"),
    "no answer": ({"images": [], "messages": [say("user", "Hello")]}, "nothing to learn"),
    "an unreadable image": (
        {**talk("What?", "It", images=1), "images": ["absent.jpg"]},
        r"absent\.jpg: no such file",
    ),
}


@pytest.mark.parametrize("kind", BAD_ROWS)
def test_a_row_that_cannot_be_used_is_named_counted_and_replaced_or_raised(kind, caplog):
    bad, message = BAD_ROWS[kind]
    processor = make_processor("qwen2_vl")
    encoder = ConversationEncoder(processor, image_token_ids(processor))
    rows = ConversationRows([ROWS["one answer"], bad, ROWS["text only"]], encoder)
    alike = 0 if count_images(bad["messages"]) else 2
    assert [rows[index]["row"] for index in (0, 1, 2, 1)] == [0, alike, 2, alike]
    (record,) = caplog.records
    assert "row 1 cannot be read" in record.message
    reason = "nothing to learn" if kind == "no answer" else "unusable"
    assert rows.outcomes == {"truncated": 0, "too long": 0, "nothing to learn": 0, "unusable": 0} | {reason: 1}
    with pytest.raises(ValueError, match=f"row 1 cannot be read: .*{message}"):
        ConversationRows([bad] * 2, encoder, on_bad_row="raise")[1]


IMAGE_ROW, TEXT_ROW = ROWS["one answer"], ROWS["text only"]
LONG = "what " * 200


@pytest.mark.parametrize("table", [list, datasets.Dataset.from_list])
@pytest.mark.parametrize(
    ("bad", "expected"),
    [
        (talk(LONG, "one"), 4),
        (talk(LONG, "one", images=1), 1),
        ({**talk("one", "two"), "messages": [say("assistant", "two")]}, 4),
    ],
)
def test_a_row_is_replaced_by_one_of_its_kind(bad, expected, table):
    processor = make_processor("llava")
    encoder = ConversationEncoder(processor, [tiny.IMAGE], 100)
    rows = table([bad, IMAGE_ROW, IMAGE_ROW, IMAGE_ROW, TEXT_ROW, IMAGE_ROW])
    assert ConversationRows(rows, encoder)[0]["row"] == expected


def test_a_row_of_another_kind_replaces_the_last_of_its_own():
    encoder = ConversationEncoder(make_processor("llava"), [tiny.IMAGE], 100)
    rows = ConversationRows([talk(LONG, "one"), IMAGE_ROW, IMAGE_ROW], encoder)
    assert [row["row"] for row in rows.__getitems__([0, 1])] == [2, 1]
    assert [row["row"] for row in rows.__getitems__([0, 1, 2])] == [1, 2]


def test_a_row_whose_messages_cannot_be_read_is_of_no_kind():
    encoder = ConversationEncoder(make_processor("llava"), [tiny.IMAGE])
    rows = ConversationRows([{"images": []}, {"images": [], "messages": [{"role": "user"}]}, TEXT_ROW], encoder)
    assert [rows[index]["row"] for index in range(3)] == [2, 2, 2]


@pytest.mark.parametrize("family", FAMILIES)
def test_every_processor_makes_a_blank_image_for_a_batch_of_text(family):
    """Joined to the batch as a row of its own, whatever inputs the family has."""
    processor = make_processor(family)
    encoder = ConversationEncoder(processor, image_token_ids(processor))
    blank = model_inputs(encoder, ConversationCollator(processor))
    mixed = make_batch(family, [ROWS["text only"], ROWS["text only"], blank_conversation()])
    text = make_batch(family, [ROWS["text only"]] * 2)
    joined = join_rows([text, blank], processor.tokenizer.pad_token_id)
    for name in mixed.keys() - {"labels", "row"}:
        assert torch.equal(joined[name], mixed[name]), name
    assert joined["pixel_values"].any()


def test_an_empty_list_of_images_may_be_none():
    assert encode("llava", {**talk("Hello", "you"), "images": None})["labels"].shape[0] == 1


# Rows that are too long


@pytest.mark.parametrize("family", FAMILIES)
def test_truncation_cuts_every_token_sequence_at_the_right_and_no_image(family):
    whole = encode(family, ROWS["several turns"])
    length = whole["input_ids"].shape[1]
    cut = encode(family, ROWS["several turns"], max_length=length - 3, on_long="truncate")
    assert cut.pop("truncated")
    assert not whole.pop("truncated")
    assert set(cut) == set(whole)
    for name, value in cut.items():
        per_token = whole[name].shape[:2] == (1, length)
        assert torch.equal(value, whole[name][:, : length - 3] if per_token else whole[name]), name
    assert cut["input_ids"].shape == cut["labels"].shape == (1, length - 3)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_row_is_dropped_rather_than_cut_in_an_image_or_without_an_answer(family):
    whole = encode(family, ROWS["images between answers"])
    tokens, labels = whole["input_ids"][0], whole["labels"][0]
    images = torch.isin(tokens, torch.tensor(image_token_ids(make_processor(family)))).nonzero()
    for max_length in (1, int(images[0]) + 1, int(images[-1])):
        with pytest.raises(ValueError, match=rf"too long \({len(tokens)} tokens, max_length is {max_length}\)"):
            encode(family, ROWS["images between answers"], max_length=max_length, on_long="truncate")
    # Behind the last image there is at least the first answer to learn; with one turn there is not.
    kept = encode(family, ROWS["images between answers"], max_length=int(images[-1]) + 1, on_long="truncate")
    assert (kept["labels"] != IGNORED).any()
    first = int((encode(family, ROWS["one answer"])["labels"][0] != IGNORED).nonzero()[0])
    with pytest.raises(ValueError, match="too long"):
        encode(family, ROWS["one answer"], max_length=first, on_long="truncate")
    assert (labels != IGNORED).any()
    one = encode(family, ROWS["one answer"], max_length=first + 1, on_long="truncate")["labels"]
    assert (one != IGNORED).sum() == 1


def test_long_rows_are_counted_and_replaced_without_a_word_even_where_bad_rows_stop_the_run(caplog):
    processor = make_processor("llava")
    rows = [talk("Hello", "you " * length) for length in (5, 50, 500, 10)]
    dropping = ConversationRows(rows, ConversationEncoder(processor, [tiny.IMAGE], 40), on_bad_row="raise")
    assert [dropping[index]["row"] for index in (0, 1, 2, 3, 1)] == [0, 3, 3, 3, 3]
    assert dropping.outcomes == {"truncated": 0, "too long": 2, "nothing to learn": 0, "unusable": 0}
    cutting = ConversationRows(rows, ConversationEncoder(processor, [tiny.IMAGE], 40, "truncate"), on_bad_row="raise")
    items = [cutting[index] for index in (0, 1, 2, 3, 1)]
    assert [item["row"] for item in items] == [0, 1, 2, 3, 1]
    assert max(item["input_ids"].shape[1] for item in items) == 40
    assert cutting.outcomes == {"truncated": 2, "too long": 0, "nothing to learn": 0, "unusable": 0}
    assert not caplog.records
    with caplog.at_level(logging.WARNING):
        cutting.log_outcomes()
    assert caplog.records[0].message == "of 4 conversations: 2 truncated"


def test_a_row_of_just_the_largest_length_is_kept_whole():
    length = encode("llava", ROWS["one answer"])["input_ids"].shape[1]
    assert encode("llava", ROWS["one answer"], max_length=length)["input_ids"].shape[1] == length
    with pytest.raises(ValueError, match="too long"):
        encode("llava", ROWS["one answer"], max_length=length - 1)


def test_rows_met_by_workers_are_counted():
    processor = make_processor("llava")
    rows = [talk("Hello", "you " * length) for length in (5, 50, 500, 10, 5, 60)]
    rows = ConversationRows(rows, ConversationEncoder(processor, [tiny.IMAGE], 40))
    loader = DataLoader(rows, batch_size=2, num_workers=2, collate_fn=ConversationCollator(processor))
    assert [batch["row"].tolist() for batch in loader] == [[0, 3], [4, 3], [4, 0]]
    assert rows.outcomes["too long"] == 3
    list(loader)
    assert rows.outcomes["too long"] == 3


def test_a_clean_run_logs_nothing(caplog):
    rows = ConversationRows([ROWS["text only"]], ConversationEncoder(make_processor("llava"), [tiny.IMAGE]))
    assert rows[0]["epoch"] == 0
    rows.log_outcomes()
    assert not caplog.records


# Options and pieces


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"max_length": 0}, "max_length=0 must be at least 1"),
        ({"on_long": "cut"}, "'cut' is not one of drop, truncate"),
    ],
)
def test_options_out_of_range_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        ConversationEncoder(make_processor("llava"), [tiny.IMAGE], **settings)


def test_a_tokenizer_without_a_padding_token_is_refused():
    processor = tiny.make_processor("llava")
    processor.tokenizer.pad_token = None
    with pytest.raises(ValueError, match="no padding token"):
        ConversationCollator(processor)


def test_padding_goes_to_the_end_of_every_axis_but_the_first():
    joined = concatenate_padded([torch.ones(1, 2, 1), torch.full((2, 1, 3), 2.0)], padding=9)
    assert joined.tolist() == [
        [[1, 9, 9], [1, 9, 9]],
        [[2, 2, 2], [9, 9, 9]],
        [[2, 2, 2], [9, 9, 9]],
    ]
    assert concatenate_padded([torch.tensor([1, 2]), torch.tensor([3])], padding=0).tolist() == [1, 2, 3]
