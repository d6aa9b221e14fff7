"""Benchmarks: one small file each, and `BENCHMARKS`, which finds them by name."""

from .aro_order import AroCocoOrder, AroFlickrOrder
from .aro_visual_genome import AroAttribution, AroRelation
from .base import Benchmark
from .choice import CaptionChoice, ChoiceItem
from .coco_retrieval import CocoRetrieval, CocoVal2017Retrieval, Flickr30kRetrieval
from .crepe import CrepeProductivity, CrepeSystematicity
from .retrieval import Retrieval
from .scene_composition import SceneComposition, SceneParaphrases
from .scene_questions import SceneQuestions
from .scene_retrieval import SceneRetrieval
from .scene_zero_shot import SceneZeroShot
from .sugarcrepe import SugarCrepe
from .sugarcrepe_pp import SugarCrepePP
from .svo_probes import SvoProbes
from .valse import Valse
from .vl_checklist import VLCheckList
from .whatsup import WhatsUpControlled, WhatsUpSpatial
from .winoground import Winoground
from .zero_shot import ZeroShotClassification
from .zero_shot_sets import ZERO_SHOT_SETS, ZeroShotSet

BENCHMARKS: dict[str, type[Benchmark]] = {
    benchmark.name: benchmark
    for benchmark in (
        SceneComposition,
        SceneParaphrases,
        SceneZeroShot,
        SceneRetrieval,
        SceneQuestions,
        SugarCrepe,
        SugarCrepePP,
        Valse,
        AroRelation,
        AroAttribution,
        AroCocoOrder,
        AroFlickrOrder,
        Winoground,
        VLCheckList,
        WhatsUpControlled,
        WhatsUpSpatial,
        SvoProbes,
        CrepeSystematicity,
        CrepeProductivity,
        CocoRetrieval,
        CocoVal2017Retrieval,
        Flickr30kRetrieval,
        ZeroShotSet,
    )
}

__all__ = [
    "BENCHMARKS",
    "ZERO_SHOT_SETS",
    "AroAttribution",
    "AroCocoOrder",
    "AroFlickrOrder",
    "AroRelation",
    "Benchmark",
    "CaptionChoice",
    "ChoiceItem",
    "CocoRetrieval",
    "CocoVal2017Retrieval",
    "CrepeProductivity",
    "CrepeSystematicity",
    "Flickr30kRetrieval",
    "Retrieval",
    "SceneComposition",
    "SceneParaphrases",
    "SceneQuestions",
    "SceneRetrieval",
    "SceneZeroShot",
    "SugarCrepe",
    "SugarCrepePP",
    "SvoProbes",
    "VLCheckList",
    "Valse",
    "WhatsUpControlled",
    "WhatsUpSpatial",
    "Winoground",
    "ZeroShotClassification",
    "ZeroShotSet",
]
