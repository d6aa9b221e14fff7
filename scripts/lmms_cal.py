"""Run lmms-eval on a checkpoint trained with CAL, as it is; without --tasks, on those of CAL's tables.

    pip install lmms-eval==0.7.3
    python -m compalign.scripts.lmms_cal --model_args pretrained=runs/cal,device_map=cuda:0,dtype=bfloat16 \
        --batch_size 1 --output_path runs/lmms

The flags are lmms-eval's own. Its classes for LLaVA then know our configurations, which are LLaVA's with CAL's settings
beside them. The tables of the paper come from a release of mid 2024 with other answer extraction: compare a model and
its baseline under one release. OCRBench counts over a whole process, so run it alone where several models are scored.
"""

import sys

from ..modeling import LlavaCALForConditionalGeneration, LlavaNextCALForConditionalGeneration

TASKS = (
    "ocrbench,docvqa_val,chartqa,textvqa_val,scienceqa_img,mmstar,mmt_val,coco2017_cap_val,textcaps_val,"
    "refcocog_bbox_rec_val,refcocog_bbox_rec_test"
)


def main() -> None:
    """Fill in what was not given, and hand over to lmms-eval."""
    from lmms_eval.__main__ import cli_evaluate
    from lmms_eval.models.simple import llava_hf

    llava_hf.model_map |= {
        model_class.config_class.model_type: model_class
        for model_class in (LlavaCALForConditionalGeneration, LlavaNextCALForConditionalGeneration)
    }
    for flag, value in (("--model", "llava_hf"), ("--tasks", TASKS)):
        if flag not in sys.argv:
            sys.argv += [flag, value]
    cli_evaluate()


if __name__ == "__main__":
    main()
