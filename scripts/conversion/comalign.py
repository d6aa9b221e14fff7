"""Conversion of ComAlign's head between the layout of its authors' script and transformers'."""

import torch
from safetensors.torch import load_file, save_file

from ...modeling import ComAlignModel
from ...modeling.conversion import (
    Checkpoint,
    Layout,
    check_complete,
    comalign,
    comalign_differences,
    common_dtype,
    write_config,
)
from .arguments import ConvertArguments
from .common import RECORD, compare, empty_model, read_if_there, write_record

ORIGINAL_ONLY = "original_only.safetensors"  # tensors of the authors' layout that the model does not use


def to_transformers(args: ConvertArguments, source: Checkpoint, layout: Layout) -> None:
    """Write a head that `ComAlignModel.from_pretrained` reads; its frozen encoder is set in `config.backbone`."""
    config, state, kept = comalign.to_transformers(source.read(source.places))
    state["logit_scale"] = torch.tensor(config.logit_scale_init_value)
    model = empty_model(ComAlignModel, config)
    check_complete(state, model.state_dict())
    args.folder.mkdir(parents=True, exist_ok=True)
    save_file(state, args.folder / "model.safetensors", {"format": "pt"})
    save_file(kept, args.folder / ORIGINAL_ONLY)
    differences = {}
    if args.reference is not None:
        _, differences = compare(args, ComAlignModel, {"comalign": config}, comalign_differences)
    write_config(model, common_dtype(state), args.folder)
    facts = {"layout": layout._asdict(), "kind": "comalign", "left_out": sorted(kept), "differences": differences}
    write_record(args, source.files, facts)
    print(f"comalign: {len(state)} tensors; set backbone in config.json to the frozen encoder")


def to_original(args: ConvertArguments, source: Checkpoint, layout: Layout) -> None:
    """Write the plain state dict that the authors' script loads."""
    kept = args.beside / ORIGINAL_ONLY
    if not kept.is_file():
        raise FileNotFoundError(f"{kept} is missing: it holds what the authors' layout has beside the head")
    state = comalign.to_released(source.read(source.places), load_file(kept))
    args.folder.mkdir(parents=True, exist_ok=True)
    names = list(read_if_there(args.beside / RECORD).get("source", {}))
    path = args.folder / (names[0] if names else "comalign.pt")
    torch.save(state, path)
    write_record(args, source.files, {"layout": layout._asdict()})
    print(f"{path}: {len(state)} tensors")
