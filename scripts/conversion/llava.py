"""Conversion of LLaVA-1.5 and LLaVA-NeXT between their authors' layout and transformers'."""

import json
from pathlib import Path
from typing import Any

from transformers import (
    AutoTokenizer,
    LlavaImageProcessorPil,
    LlavaNextImageProcessorPil,
    LlavaNextProcessor,
    LlavaProcessor,
    PretrainedConfig,
    PreTrainedTokenizerBase,
)

from ...modeling import (
    LlavaCALConfig,
    LlavaCALForConditionalGeneration,
    LlavaNextCALConfig,
    LlavaNextCALForConditionalGeneration,
)
from ...modeling.conversion import (
    Activation,
    Checkpoint,
    Layout,
    check_complete,
    choose_kind,
    common_dtype,
    find_activation,
    llava_differences,
    make_tensors,
    open_checkpoint,
    unknown_activation,
    write_config,
    write_shards,
)
from ...modeling.conversion.llava import (
    TOKEN_TABLES,
    TOWER,
    extend_vocabulary,
    llava_config,
    plan_from_llava,
    plan_to_llava,
    shorten_vocabulary,
    vision_fields,
    vision_tower_names,
)
from ...trainers.launch.assemble import IMAGE_TOKEN, PAD_TOKEN, VICUNA_V1
from .arguments import ConvertArguments
from .common import RECORD, compare, empty_model, left_out, read_if_there, read_json, write_record

CLASSES = {
    "llava_cal": (LlavaCALForConditionalGeneration, LlavaCALConfig),
    "llava_next_cal": (LlavaNextCALForConditionalGeneration, LlavaNextCALConfig),
}
TOKENIZER_FILES = ("tokenizer.json", "tokenizer.model", "tokenizer_config.json", "special_tokens_map.json")
VICUNA = ("llava", "llava_llama")  # the model types whose language model is Vicuna, with its conversation format


def to_transformers(args: ConvertArguments, source: Checkpoint, layout: Layout) -> None:
    """Write a LLaVA that `from_pretrained` reads, shard by shard."""
    kind = choose_kind(layout, args.kind)
    model_class, config_class = CLASSES[kind]
    official = read_json(Path(args.model_config) if args.model_config else args.beside / "config.json")
    source, tower_config = _with_vision_tower(args, source)
    plan = plan_from_llava(source.places)
    shapes = make_tensors(plan, source.shapes)
    rows = shapes[TOKEN_TABLES[0]].shape[0]
    tokenizer = _tokenizer(args)
    image_token, pad_token = (
        (rows, rows + 1) if tokenizer is None else (tokenizer.image_token_id, tokenizer.pad_token_id)
    )
    tokens = max(image_token, pad_token) + 1
    plan = extend_vocabulary(plan, shapes, tokens if tokenizer is None else max(tokens, len(tokenizer)))
    shapes = make_tensors(plan, source.shapes)

    activation = _activation(args, official, tower_config)
    vision = vision_fields({**official, **tower_config}, shapes, activation.value, args.vision_heads)
    config = config_class(**llava_config(official, shapes, kind, vision, image_token, pad_token))
    model = empty_model(model_class, config)
    check_complete(shapes, model.state_dict())
    files = write_shards(plan, source, args.folder, int(args.shard_gb * 1e9))
    differences = {}
    if args.reference is not None:
        _, differences = compare(args, model_class, {activation.value: config}, llava_differences)
    write_config(model, common_dtype(shapes), args.folder)
    _write_processor(args, config, official, tokenizer)
    write_record(
        args,
        source.files,
        {
            "layout": layout._asdict(),
            "kind": kind,
            "activation": activation._asdict(),
            "vocabulary": rows,
            "left_out": left_out(source, plan),
            "differences": differences,
            "config": official,
        },
    )
    print(f"{kind}: {len(plan)} tensors in {len(files)} files, {rows} tokens and {IMAGE_TOKEN} at {image_token}")


def to_original(args: ConvertArguments, source: Checkpoint, layout: Layout) -> None:
    """Write a LLaVA that its authors' code loads, shard by shard, image tower included."""
    record = read_if_there(args.beside / RECORD)
    official = read_json(Path(args.model_config)) if args.model_config else record.get("config")
    if official is None:
        raise ValueError(f"no {RECORD} beside {args.source}: give the authors' config.json with --model_config")
    plan = shorten_vocabulary(plan_to_llava(source.places), record.get("vocabulary", official["vocab_size"]))
    files = write_shards(plan, source, args.folder, int(args.shard_gb * 1e9))
    (args.folder / "config.json").write_text(json.dumps(official, indent=2) + "\n", encoding="utf-8")
    write_record(args, source.files, {"layout": layout._asdict(), "left_out": left_out(source, plan)})
    print(f"{args.folder}: {len(plan)} tensors in {len(files)} files")


def _with_vision_tower(args: ConvertArguments, source: Checkpoint) -> tuple[Checkpoint, dict[str, Any]]:
    """Return the checkpoint with an image tower, its own or a given one, and the configuration of a given one."""
    has_tower = any(name.startswith(TOWER) for name in source.places)
    if args.vision_tower is None:
        if not has_tower:
            raise ValueError(
                f"{args.source} has no image tower: give --vision_tower, a folder of CLIP in transformers' layout"
            )
        return source, {}
    if has_tower:
        raise ValueError(
            f"vision_tower={args.vision_tower}: {args.source} has an image tower of its own, maybe trained"
        )
    tower = open_checkpoint(args.vision_tower)
    path = Path(args.vision_tower)
    written = read_if_there((path if path.is_dir() else path.parent) / "config.json")
    config = {"vision_config": written.get("vision_config", written)} if written else {}
    return source.with_tensors_of(tower.only(vision_tower_names(tower.places))), config


def _activation(args: ConvertArguments, official: dict[str, Any], tower_config: dict[str, Any]) -> Activation:
    """Return the activation of the image tower: as asked for, as its configuration says, or by its name."""
    name = str(official.get("mm_vision_tower"))
    written = {**official, **tower_config}.get("vision_config", {}).get("hidden_act")
    where = "config.json of the vision tower" if tower_config else "vision_config in config.json"
    found = find_activation(args.activation, [name], Activation(written, where) if written else None)
    if found is None:
        raise unknown_activation([name])
    return found


def _tokenizer(args: ConvertArguments) -> PreTrainedTokenizerBase | None:
    """Return LLaVA's tokenizer with tokens for images and padding; None where the source has no tokenizer."""
    folder = Path(args.tokenizer) if args.tokenizer else args.beside
    if args.tokenizer is None and not any((folder / name).is_file() for name in TOKENIZER_FILES[:2]):
        print("no tokenizer written: the source has none; give its folder with --tokenizer")
        return None
    tokenizer = AutoTokenizer.from_pretrained(folder, extra_special_tokens={"image_token": IMAGE_TOKEN})
    if tokenizer.pad_token in (None, tokenizer.unk_token):  # LLaVA pads with <unk>, which a text may hold
        tokenizer.add_special_tokens({"pad_token": PAD_TOKEN})
    return tokenizer


def _write_processor(
    args: ConvertArguments,
    config: PretrainedConfig,
    official: dict[str, Any],
    tokenizer: PreTrainedTokenizerBase | None,
) -> None:
    """Write the image processor and, with a tokenizer, the whole processor."""
    side = config.vision_config.image_size
    sizes = {"size": {"shortest_edge": side}, "crop_size": {"height": side, "width": side}}
    if isinstance(config, LlavaNextCALConfig):
        processor_class = LlavaNextProcessor
        images = LlavaNextImageProcessorPil(**sizes, image_grid_pinpoints=config.image_grid_pinpoints)
    else:
        processor_class = LlavaProcessor
        images = LlavaImageProcessorPil(**sizes, do_pad=official.get("image_aspect_ratio") == "pad")
    if tokenizer is None:
        images.save_pretrained(args.folder)
        return
    processor_class(
        images,
        tokenizer,
        patch_size=config.vision_config.patch_size,
        vision_feature_select_strategy=config.vision_feature_select_strategy,
        num_additional_image_tokens=1,
        chat_template=VICUNA_V1.read_text(encoding="utf-8") if official["model_type"] in VICUNA else None,
    ).save_pretrained(args.folder)
