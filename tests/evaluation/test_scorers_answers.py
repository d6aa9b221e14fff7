"""Answers scored from a shared beginning equal those of a forward of each conversation alone."""

import pytest
import tiny_multimodal as tiny
import torch
from PIL import Image

from compalign.data.chat.encoder import conversation_encoder
from compalign.data.scenes import generate_scene, render
from compalign.evaluation.scorers.answers import AnswerScorer, continued_log_probs

IGNORED = -100
IMAGE = render(generate_scene(5), 48)
CAPTIONS = ["a red cat above a blue star", "a star", "", "a large red cat to the left of a blue star"]
QUESTIONS = [("what colour is the star?", "blue"), ("is there a red cat?", "yes"), ("what is it?", "a red cat")]


def make_scorer(family, **options):
    if family == "paligemma":
        processor, model = tiny.make_paligemma_processor(), tiny.make_model("paligemma", torch.float64)
        model.resize_token_embeddings(len(processor.tokenizer))
    else:
        processor, model = tiny.make_processor(family), tiny.make_model(family, torch.float64)
    return AnswerScorer(model, processor, **options)


def plain(scorer, processor, image, question, answer):
    """Log-probability of each token of an answer, from one forward of the whole conversation."""
    images = [] if image is None else [image]
    messages = [
        {"role": "user", "content": [{"type": "image"}] * len(images) + [{"type": "text", "text": question}]},
        {"role": "assistant", "content": [{"type": "text", "text": answer}]},
    ]
    encoded = conversation_encoder(scorer.model, processor)({"images": images, "messages": messages})
    labels, _ = encoded.pop("labels")[0], encoded.pop("truncated")
    inputs = {key: value.double() if value.is_floating_point() else value for key, value in encoded.items()}
    if "token_type_ids" not in inputs:
        logits = scorer.model(**inputs).logits[0]
    else:  # PaliGemma's attention within the answer is causal only where it is told about it
        logits = scorer.model(**inputs, labels=labels[None]).logits[0]
    places = (labels != IGNORED).nonzero()[:, 0]
    log_probs = logits.log_softmax(-1)[places - 1].gather(1, labels[places, None])[:, 0]
    return log_probs, logits[places - 1].argmax(-1) == labels[places]


def check(scorer, processor, image, conversations):
    scored = scorer(image, conversations)
    for conversation, found in zip(conversations, scored, strict=True):
        log_probs, likeliest = plain(scorer, processor, image, *conversation)
        torch.testing.assert_close(torch.from_numpy(found.log_probs), log_probs.detach(), rtol=1e-9, atol=1e-9)
        assert found.likeliest.tolist() == likeliest.tolist()
        assert found.words == len(log_probs) - 1
    return scored


@pytest.mark.parametrize("batch_size", [2, 32])
@pytest.mark.parametrize("family", ["llava", "llava_next", "paligemma"])
def test_captions_of_an_image_score_as_each_alone(family, batch_size):
    scorer = make_scorer(family, batch_size=batch_size)
    processor = tiny.make_paligemma_processor() if family == "paligemma" else tiny.make_processor(family)
    captions = [caption for caption in CAPTIONS if caption or family != "paligemma"]
    check(scorer, processor, IMAGE, [("Describe the image.", caption) for caption in captions])
    assert scorer.beginnings == 1


@pytest.mark.parametrize("family", ["llava", "llava_next"])
def test_questions_about_an_image_share_its_pass(family):
    scorer = make_scorer(family)
    check(scorer, tiny.make_processor(family), IMAGE, QUESTIONS)
    assert scorer.beginnings == 1


def test_a_prompt_that_is_read_both_ways_is_shared_by_its_own_answers_only():
    scorer = make_scorer("paligemma")
    check(scorer, tiny.make_paligemma_processor(), IMAGE, [*QUESTIONS, (QUESTIONS[0][0], "red")])
    assert scorer.beginnings == 3


@pytest.mark.parametrize("family", ["llava", "llava_next"])
def test_an_image_can_be_left_out(family):
    scorer = make_scorer(family)
    blind = check(scorer, tiny.make_processor(family), None, [*QUESTIONS, ("Describe the image.", "a star")])
    seen = scorer(IMAGE, QUESTIONS)
    assert abs(blind[0].log_probs - seen[0].log_probs).max() > 0.01


def test_an_image_behind_the_question_is_read_for_each_question():
    processor = tiny.make_processor("llava")
    images = "{%- for part in message.content if part.type == 'image' -%}{{- '<image>\\n' -}}{%- endfor -%}"
    template = tiny.CHAT_TEMPLATE.replace(images, "").replace("{{- words + ' ' -}}", "{{- words + ' ' -}}" + images)
    assert template.index("words + ' '") < template.index("<image>")
    processor.chat_template = template
    scorer = AnswerScorer(tiny.make_model("llava", torch.float64), processor)
    check(scorer, processor, IMAGE, [*QUESTIONS, (QUESTIONS[0][0], "red")])
    assert scorer.beginnings == 3


def test_a_prompt_whose_end_merges_with_some_answers_is_shared_up_to_there():
    processor = tiny.make_processor("llava")
    processor.chat_template = tiny.CHAT_TEMPLATE.replace("'ASSISTANT:' if", "'ASSISTANT: ' if")
    scorer = AnswerScorer(tiny.make_model("llava", torch.float64), processor)
    check(scorer, processor, IMAGE, [("What?", answer) for answer in ("a star", "{", "red")])
    assert scorer.beginnings == 1


@pytest.mark.parametrize("images", [(1,), (2,)])
@pytest.mark.parametrize("family", [family for family in tiny.FAMILIES if family not in ("mllama", "paligemma")])
def test_any_model_goes_on_from_its_cache(family, images):
    """Without a processor: the beginning is cut from a whole row, at the answer and within the prompt before it."""
    model, batch = tiny.make_model(family, torch.float64), tiny.make_batch(family, images, torch.float64)
    labels = batch.pop("labels")[0]
    logits = model(**batch).logits[0]
    places = (labels != IGNORED).nonzero()[:, 0]
    expected = logits.log_softmax(-1)[places - 1].gather(1, labels[places, None])[:, 0].detach()
    total = len(labels)
    for cut in (int(places[0]), int(places[0]) - 1):
        beginning = {key: value[:, :cut] if value.shape[:2] == (1, total) else value for key, value in batch.items()}
        tokens, targets = batch["input_ids"][0, cut:].tolist(), labels[cut:].tolist()
        short = (tokens[:-2], targets[:-2])
        found = continued_log_probs(model, beginning, [(tokens, targets), short, (tokens, targets)], batch_size=2)
        for log_probs, _ in (found[0], found[2]):
            torch.testing.assert_close(log_probs, expected, rtol=1e-9, atol=1e-9)
        torch.testing.assert_close(found[1][0], expected[:-2], rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("family", [family for family in tiny.FAMILIES if family not in ("mllama", "paligemma")])
def test_a_text_alone_is_not_counted_on_from_the_image_before(family):
    model, batch = tiny.make_model(family, torch.float64), tiny.make_batch(family, (1,), torch.float64)
    tokens = batch["input_ids"][:, -12:]
    logits = model(input_ids=tokens).logits[0]
    expected = logits[5:-1].log_softmax(-1).gather(1, tokens[0, 6:, None])[:, 0].detach()
    model(**{key: value for key, value in batch.items() if key != "labels"})
    rest = tokens[0, 6:].tolist()
    ((found, _),) = continued_log_probs(model, {"input_ids": tokens[:, :6]}, [(rest, rest)], batch_size=2)
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9)


def test_a_model_is_left_in_the_mode_it_was_in():
    scorer = make_scorer("llava")
    scorer.model.train().model.vision_tower.eval()
    before = [module.training for module in scorer.model.modules()]
    first, second = scorer(IMAGE, QUESTIONS), scorer(IMAGE, QUESTIONS)
    assert [module.training for module in scorer.model.modules()] == before
    assert all((one.log_probs == two.log_probs).all() for one, two in zip(first, second, strict=True))


def test_cross_attention_is_refused():
    with pytest.raises(ValueError, match="cross-attention"):
        AnswerScorer(tiny.make_model("mllama"), tiny.make_processor("llava"))


def test_an_unreadable_image_is_named(tmp_path):
    Image.new("RGB", (4, 4)).save(tmp_path / "whole.png")
    (tmp_path / "cut.png").write_bytes((tmp_path / "whole.png").read_bytes()[:40])
    with pytest.raises(ValueError, match=r"cut\.png"):
        make_scorer("llava")(tmp_path / "cut.png", QUESTIONS)
