"""Conversion of dual encoders between open_clip's layout and transformers'."""

import shutil
from pathlib import Path
from typing import Any

import torch
from transformers import CLIPConfig, CLIPImageProcessorPil, CLIPModel, CLIPProcessor

from ...data.tokenization import clip_tokenizer_from_bpe
from ...modeling import CECLIPConfig, CECLIPModel, DeGLACLIPConfig, DeGLACLIPModel
from ...modeling.conversion import (
    ACTIVATIONS,
    Activation,
    Checkpoint,
    Layout,
    Recipe,
    check_complete,
    choose_kind,
    clip_differences,
    common_dtype,
    find_activation,
    make_tensors,
    unknown_activation,
    write_config,
    write_shards,
)
from ...modeling.conversion.open_clip import (
    clip_config,
    plan_from_open_clip,
    plan_to_open_clip,
    plan_within_transformers,
    resize_positions,
    wrapper_prefix,
)
from .arguments import ConvertArguments
from .common import RECORD, compare, empty_model, left_out, read_if_there, read_json, write_record

CLASSES = {
    "clip": (CLIPModel, CLIPConfig),
    "degla_clip": (DeGLACLIPModel, DeGLACLIPConfig),
    "ce_clip": (CECLIPModel, CECLIPConfig),
}
PROCESSOR_FILES = (
    "processor_config.json",
    "preprocessor_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "vocab.json",
    "merges.txt",
)


def to_transformers(args: ConvertArguments, source: Checkpoint, layout: Layout) -> None:
    """Write a dual encoder that `from_pretrained` reads."""
    kind = choose_kind(layout, args.kind)
    model_class, _ = CLASSES[kind]
    from_open_clip = layout.name == "open_clip"
    plan = (plan_from_open_clip if from_open_clip else plan_within_transformers)(source.places)
    ignored = left_out(source, plan)
    if kind == "ce_clip":
        plan.setdefault("rank_threshold", Recipe((), lambda: torch.zeros(args.num_negatives)))
    shapes = make_tensors(plan, source.shapes)
    if args.image_size is not None:
        if not from_open_clip:  # the processor beside it is copied, and makes images of the old size
            raise ValueError("--image_size: only a checkpoint in open_clip's layout can be resized")
        plan = resize_positions(plan, shapes, args.image_size)
        shapes = make_tensors(plan, source.shapes)

    original = _original_config(args, from_open_clip)
    names = [Path(args.source).name, *map(str, filter(None, [source.about.get("name")]))]
    stated = find_activation(args.activation, names, _written_activation(original))
    if stated is None and args.reference is None:
        raise unknown_activation(names)
    choices = [stated.value] if stated else ACTIVATIONS
    configs = {choice: _config(args, kind, shapes, choice, original) for choice in choices}
    check_complete(shapes, empty_model(model_class, configs[choices[0]]).state_dict())
    processor = _processor(args, configs[choices[0]], original) if from_open_clip else None

    files = write_shards(plan, source, args.folder, int(args.shard_gb * 1e9))
    chosen, differences = choices[0], {}
    if args.reference is not None:
        chosen, differences = compare(args, model_class, configs, clip_differences)
    activation = stated or Activation(chosen, f"agrees with {Path(args.reference).name}, the other does not")
    write_config(empty_model(model_class, configs[chosen]), common_dtype(shapes), args.folder)
    if processor is None:
        _copy_processor(args.beside, args.folder)
    else:
        processor.save_pretrained(args.folder)
    write_record(
        args,
        source.files,
        {
            "layout": layout._asdict(),
            "kind": kind,
            "prefix": wrapper_prefix(source.places) if from_open_clip else "",
            "about": source.about,
            "activation": activation._asdict(),
            "image_size": args.image_size,
            "left_out": ignored,
            "differences": differences,
        },
    )
    print(f"{kind} with {activation.value} ({activation.known_by}): {len(plan)} tensors in {len(files)} files")
    if ignored:
        print(f"left out: {', '.join(ignored)}")


def to_original(args: ConvertArguments, source: Checkpoint, layout: Layout) -> None:
    """Write a training checkpoint that the code of NegCLIP, CE-CLIP and DeGLA loads."""
    record = read_if_there(args.beside / RECORD)
    config = read_if_there(args.beside / "config.json")
    plan = plan_to_open_clip(source.places, record.get("prefix", ""))
    tensors = make_tensors(plan, source.read(source.places))
    about = record.get("about") or {"epoch": 0, "name": config.get("model_type", "clip")}
    args.folder.mkdir(parents=True, exist_ok=True)
    path = args.folder / f"epoch_{about['epoch']}.pt"
    torch.save({**about, "state_dict": tensors}, path)
    activation = config.get("vision_config", {}).get("hidden_act", "unknown")
    ignored = left_out(source, plan)
    write_record(
        args, source.files, {"layout": layout._asdict(), "about": about, "activation": activation, "left_out": ignored}
    )
    print(f"{path}: {len(tensors)} tensors; activation {activation}, which this layout does not state")
    if ignored:
        print(f"left out: {', '.join(ignored)}")


def _original_config(args: ConvertArguments, from_open_clip: bool) -> dict[str, Any]:
    """Read transformers' configuration, or open_clip's as `{"model_cfg": ..., "preprocess_cfg": ...}`.

    Empty where there is no such file.
    """
    if not from_open_clip:
        return read_if_there(args.beside / "config.json")
    if args.model_config is not None:
        candidates = [read_json(Path(args.model_config))]
    else:
        candidates = [read_if_there(args.beside / name) for name in ("open_clip_config.json", "config.json")]
    for found in candidates:
        for model in (found.get("model_cfg"), found.get("config"), found):
            if model and "vision_cfg" in model:
                return {**found, "model_cfg": model}
    if args.model_config is not None:
        raise ValueError(f"{args.model_config} holds no vision_cfg, at its top, in model_cfg or in config")
    return {}


def _written_activation(original: dict[str, Any]) -> Activation | None:
    """Return the activation that a configuration of transformers or open_clip states."""
    if hidden_act := original.get("vision_config", {}).get("hidden_act"):
        return Activation(hidden_act, "config.json")
    quick = original.get("model_cfg", {}).get("quick_gelu")  # its absence says nothing: the papers' files leave it out
    return None if quick is None else Activation("quick_gelu" if quick else "gelu", f"quick_gelu={quick}")


def _config(
    args: ConvertArguments, kind: str, shapes: dict[str, torch.Tensor], hidden_act: str, original: dict[str, Any]
) -> CLIPConfig:
    """Make the configuration of the result."""
    model = original.get("model_cfg", {})
    towers = {side: original.get(f"{side}_config", {}) for side in ("vision", "text")}
    heads = {side: getattr(args, f"{side}_heads") or tower.get("num_attention_heads") for side, tower in towers.items()}
    if "head_width" in model.get("vision_cfg", {}):
        heads["vision"] = heads["vision"] or model["vision_cfg"]["width"] // model["vision_cfg"]["head_width"]
    heads["text"] = heads["text"] or model.get("text_cfg", {}).get("heads")
    fields = clip_config(shapes, hidden_act, heads["vision"], heads["text"])
    if "eos_token_id" in towers["text"]:  # a model of transformers ends its texts where it did
        fields["text_config"]["eos_token_id"] = towers["text"]["eos_token_id"]
    if kind == "ce_clip":
        fields["num_negatives"] = shapes["rank_threshold"].shape[0]
    return CLASSES[kind][1](**fields)


def _processor(
    args: ConvertArguments, config: CLIPConfig, original: dict[str, Any]
) -> CLIPProcessor | CLIPImageProcessorPil:
    """Make the processor of a model from open_clip's layout; without --bpe, the image processor alone."""
    side = config.vision_config.image_size
    normalisation = original.get("preprocess_cfg", {})
    images = CLIPImageProcessorPil(
        size={"shortest_edge": side},
        crop_size={"height": side, "width": side},
        **{f"image_{name}": normalisation[name] for name in ("mean", "std") if name in normalisation},
    )
    if args.bpe is None:
        print("no tokenizer written: give OpenAI's bpe_simple_vocab_16e6.txt.gz with --bpe to have CLIP's")
        return images
    tokenizer = clip_tokenizer_from_bpe(args.bpe)
    text = config.text_config
    if len(tokenizer) != text.vocab_size:
        raise ValueError(f"{args.bpe} has {len(tokenizer)} tokens, the checkpoint {text.vocab_size}")
    tokenizer.model_max_length = text.max_position_embeddings
    return CLIPProcessor(images, tokenizer)


def _copy_processor(source: Path, folder: Path) -> None:
    """Copy the processor that lies beside a model in transformers' layout."""
    for name in PROCESSOR_FILES:
        if (source / name).is_file():
            shutil.copy(source / name, folder / name)
