"""Checkpoints in the layouts of the papers' own code, at any size, with weights that are no training's result."""

import json
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

# (width, layers, patch, image side, text width, text layers, embedding, vocabulary) as OpenAI and open_clip have them
CLIP_SIZES = {
    "ViT-B-32": (768, 12, 32, 224, 512, 12, 512, 49408),
    "ViT-B-16": (768, 12, 16, 224, 512, 12, 512, 49408),
    "ViT-L-14": (1024, 24, 14, 224, 768, 12, 768, 49408),
    "ViT-L-14-336": (1024, 24, 14, 336, 768, 12, 768, 49408),
    "ViT-H-14": (1280, 32, 14, 224, 1024, 24, 1024, 49408),
}


def open_clip_shapes(size: str, prefix: str = "module.") -> dict[str, Tensor]:
    """State dict of open_clip's CLIP on the meta device."""
    width, layers, patch, side, text_width, text_layers, embedding, vocabulary = CLIP_SIZES[size]
    shapes = {
        "positional_embedding": (77, text_width),
        "text_projection": (text_width, embedding),
        "logit_scale": (),
        "visual.class_embedding": (width,),
        "visual.positional_embedding": ((side // patch) ** 2 + 1, width),
        "visual.proj": (width, embedding),
        "visual.conv1.weight": (width, 3, patch, patch),
        **_norms("visual.ln_pre", width),
        **_blocks("visual.transformer", width, layers),
        **_norms("visual.ln_post", width),
        **_blocks("transformer", text_width, text_layers),
        "token_embedding.weight": (vocabulary, text_width),
        **_norms("ln_final", text_width),
    }
    return {prefix + name: torch.empty(shape, device="meta") for name, shape in shapes.items()}


def llava_config(hidden: int, inner: int, layers: int, tiled: bool = False, **fields) -> dict:
    """LLaVA's `config.json`, as LLaVA-1.5's or, tiled, as LLaVA-NeXT's."""
    config = {
        "architectures": ["LlavaLlamaForCausalLM"],
        "model_type": "llava_llama" if tiled else "llava",
        "hidden_size": hidden,
        "intermediate_size": inner,
        "num_hidden_layers": layers,
        "num_attention_heads": hidden // 16,
        "num_key_value_heads": hidden // 16,
        "vocab_size": 96,
        "max_position_embeddings": 256,
        "rms_norm_eps": 1e-5,
        "bos_token_id": 1,
        "eos_token_id": 2,
        "pad_token_id": 0,
        "torch_dtype": "bfloat16",
        "mm_projector_type": "mlp2x_gelu",
        "mm_vision_select_layer": -2,
        "mm_vision_select_feature": "patch",
        "mm_use_im_start_end": False,
        "mm_use_im_patch_token": False,
        "mm_vision_tower": "openai/clip-vit-large-patch14-336",
        "image_aspect_ratio": "anyres" if tiled else "pad",
        "mm_patch_merge_type": "spatial_unpad" if tiled else "flat",
    }
    if tiled:
        config["image_grid_pinpoints"] = [[28, 56], [56, 28], [56, 56]]
    return {**config, **fields}


def llava_weights(config: Mapping, vision: int = 64, tower: bool = True, seed: int = 0) -> dict[str, Tensor]:
    """LLaVA's state dict in bfloat16, random; its image tower has 28-pixel images of 7-pixel patches and 3 layers."""
    hidden, inner = config["hidden_size"], config["intermediate_size"]
    shapes = {
        "model.embed_tokens.weight": (config["vocab_size"], hidden),
        "model.norm.weight": (hidden,),
        "lm_head.weight": (config["vocab_size"], hidden),
        "model.mm_projector.0.weight": (hidden, vision),
        "model.mm_projector.0.bias": (hidden,),
        "model.mm_projector.2.weight": (hidden, hidden),
        "model.mm_projector.2.bias": (hidden,),
    }
    for layer in range(config["num_hidden_layers"]):
        block = f"model.layers.{layer}."
        shapes |= {f"{block}self_attn.{name}_proj.weight": (hidden, hidden) for name in "qkvo"}
        shapes |= {f"{block}mlp.{name}_proj.weight": (inner, hidden) for name in ("gate", "up")}
        shapes |= {f"{block}mlp.down_proj.weight": (hidden, inner)}
        shapes |= {f"{block}{name}_layernorm.weight": (hidden,) for name in ("input", "post_attention")}
    if config["mm_patch_merge_type"] == "spatial_unpad":
        shapes["model.image_newline"] = (hidden,)
    if tower:
        shapes |= {
            f"model.vision_tower.vision_tower.{name}": shape for name, shape in clip_tower_shapes(vision).items()
        }
    generator = torch.Generator().manual_seed(seed)
    return {
        name: torch.empty(shape, dtype=torch.bfloat16).normal_(0.0, 0.2, generator=generator)
        for name, shape in shapes.items()
    }


def clip_tower_shapes(width: int, layers: int = 3) -> dict[str, tuple[int, ...]]:
    """Shapes of the image tower of transformers' CLIP, by its names."""
    shapes = {
        "embeddings.class_embedding": (width,),
        "embeddings.patch_embedding.weight": (width, 3, 7, 7),
        "embeddings.position_embedding.weight": (17, width),
        **_norms("pre_layrnorm", width),
        **_norms("post_layernorm", width),
    }
    for layer in range(layers):
        block = f"encoder.layers.{layer}"
        for name in ("q_proj", "k_proj", "v_proj", "out_proj"):
            shapes |= _linear(f"{block}.self_attn.{name}", width, width)
        shapes |= _linear(f"{block}.mlp.fc1", 2 * width, width) | _linear(f"{block}.mlp.fc2", width, 2 * width)
        shapes |= _norms(f"{block}.layer_norm1", width) | _norms(f"{block}.layer_norm2", width)
    return {f"vision_model.{name}": shape for name, shape in shapes.items()}


def save_sharded_bin(weights: Mapping[str, Tensor], folder: Path, shards: int) -> None:
    """Write `pytorch_model-*.bin` and their index, as LLaVA is published."""
    names = list(weights)
    weight_map = {
        name: f"pytorch_model-{1 + index % shards:05d}-of-{shards:05d}.bin" for index, name in enumerate(names)
    }
    for file in sorted(set(weight_map.values())):
        torch.save({name: weights[name].clone() for name in names if weight_map[name] == file}, folder / file)
    (folder / "pytorch_model.bin.index.json").write_text(json.dumps({"weight_map": weight_map}))


def _blocks(tower: str, width: int, layers: int) -> dict[str, tuple[int, ...]]:
    """Transformer blocks of open_clip."""
    shapes = {}
    for layer in range(layers):
        block = f"{tower}.resblocks.{layer}"
        shapes |= {f"{block}.attn.in_proj_weight": (3 * width, width), f"{block}.attn.in_proj_bias": (3 * width,)}
        shapes |= _linear(f"{block}.attn.out_proj", width, width)
        shapes |= _linear(f"{block}.mlp.c_fc", 4 * width, width) | _linear(f"{block}.mlp.c_proj", width, 4 * width)
        shapes |= _norms(f"{block}.ln_1", width) | _norms(f"{block}.ln_2", width)
    return shapes


def _linear(name: str, out: int, into: int) -> dict[str, tuple[int, ...]]:
    """Weight and bias of a linear layer."""
    return {f"{name}.weight": (out, into), f"{name}.bias": (out,)}


def _norms(name: str, width: int) -> dict[str, tuple[int, ...]]:
    """Weight and bias of a layer normalisation."""
    return {f"{name}.weight": (width,), f"{name}.bias": (width,)}
