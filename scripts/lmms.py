"""Run lmms-eval on a checkpoint trained with CAL; without --tasks, on the benchmarks of CAL's tables.

    pip install lmms-eval==0.7.3
    compalign lmms --model_args pretrained=runs/cal,device_map=cuda:0,dtype=bfloat16 --batch_size 1 \\
        --output_path runs/lmms

The flags are lmms-eval's own; `python -m lmms_eval --help` lists them. Its LLaVA model then reads our configurations,
which are LLaVA's with CAL's settings added. The tables of the paper come from a release of mid 2024, which extracts
answers in another way: compare a model and its baseline under one release. OCRBench counts over a whole process, so run
it alone where several models are scored.
"""

import importlib.util
import sys

from .cli import HELP

TASKS = (
    "ocrbench,docvqa_val,chartqa,textvqa_val,scienceqa_img,mmstar,mmt_val,coco2017_cap_val,textcaps_val,"
    "refcocog_bbox_rec_val,refcocog_bbox_rec_test"
)
DEFAULTS = {"--model": "llava_hf", "--tasks": TASKS}


def main(arguments: list[str] | None = None) -> None:
    """Add the model and the tasks where they are not given, and hand over to lmms-eval.

    Raises:
        ValueError: If lmms-eval is not installed.
    """
    arguments = sys.argv[1:] if arguments is None else arguments
    if set(HELP) & set(arguments):
        defaults = "\n".join(f"  {flag} {value}" for flag, value in DEFAULTS.items())
        print(
            f"usage: compalign lmms [--flag of lmms-eval ...]\n\n{__doc__}\nadded where they are not given:\n{defaults}"
        )
        raise SystemExit(0)
    if importlib.util.find_spec("lmms_eval") is None:
        raise ValueError("lmms-eval is not installed: pip install lmms-eval==0.7.3")
    from lmms_eval.__main__ import cli_evaluate
    from lmms_eval.models.simple import llava_hf

    from ..modeling import LlavaCALForConditionalGeneration, LlavaNextCALForConditionalGeneration

    llava_hf.model_map |= {
        model_class.config_class.model_type: model_class
        for model_class in (LlavaCALForConditionalGeneration, LlavaNextCALForConditionalGeneration)
    }
    given = {word.partition("=")[0] for word in arguments}
    added = [word for flag, value in DEFAULTS.items() if flag not in given for word in (flag, value)]
    sys.argv = ["lmms-eval", *arguments, *added]
    cli_evaluate()
