"""Generated scenes with captions, negatives, questions, components and benchmark items, each a function of a seed."""

from .captions import WEB_MIX, Caption, Mention, Statement, WebMix, full_caption, holds, paraphrase, web_caption
from .components import SceneComponentDataset, component_row
from .conversations import SceneConversationDataset, scene_conversation
from .dataset import SceneDataset, WebSceneDataset, sample_negatives, scene_row, web_row
from .glyphs import NOUNS
from .graph import COLOURS, HELD_OUT, PLACES, RELATIONS, SIZES, SPLITS, Scene, SceneObject, generate_scene
from .items import (
    CompositionItem,
    RetrievalItem,
    ZeroShotItem,
    ZeroShotLabel,
    composition_items,
    retrieval_items,
    zero_shot_items,
    zero_shot_labels,
)
from .negatives import NEGATIVE_KINDS, negative_caption, negative_statement
from .questions import QUESTION_KINDS, Question, questions
from .reading import SceneReadingDataset
from .render import render

__all__ = [
    "COLOURS",
    "HELD_OUT",
    "NEGATIVE_KINDS",
    "NOUNS",
    "PLACES",
    "QUESTION_KINDS",
    "RELATIONS",
    "SIZES",
    "SPLITS",
    "WEB_MIX",
    "Caption",
    "CompositionItem",
    "Mention",
    "Question",
    "RetrievalItem",
    "Scene",
    "SceneComponentDataset",
    "SceneConversationDataset",
    "SceneDataset",
    "SceneObject",
    "SceneReadingDataset",
    "Statement",
    "WebMix",
    "WebSceneDataset",
    "ZeroShotItem",
    "ZeroShotLabel",
    "component_row",
    "composition_items",
    "full_caption",
    "generate_scene",
    "holds",
    "negative_caption",
    "negative_statement",
    "paraphrase",
    "questions",
    "render",
    "retrieval_items",
    "sample_negatives",
    "scene_conversation",
    "scene_row",
    "web_caption",
    "web_row",
    "zero_shot_items",
    "zero_shot_labels",
]
