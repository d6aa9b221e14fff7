"""The flags of `compalign convert`; importing them loads nothing heavy."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar, Literal


@dataclass
class ConvertArguments:
    """The checkpoint, the layout to write, and facts that the checkpoint does not contain."""

    GROUP: ClassVar[str] = "model"

    source: str = field(
        metadata={"help": "Checkpoint: a .safetensors, .pt or .bin file, or a folder of one file or of shards."}
    )
    output_dir: str = field(metadata={"help": "New folder for the result.", "group": "output"})
    original: bool = field(
        default=False,
        metadata={
            "help": "Write the layout that the authors' code reads (open_clip's, LLaVA's or ComAlign's). By default "
            "transformers' layout is written.",
            "group": "what to do",
        },
    )
    kind: Literal["clip", "degla_clip", "ce_clip", "llava_cal", "llava_next_cal", "comalign"] | None = field(
        default=None, metadata={"help": "Model to make. Needed where the names of the tensors leave a choice."}
    )
    activation: Literal["quick_gelu", "gelu"] | None = field(
        default=None,
        metadata={"help": "Activation of CLIP. Needed where neither a file name nor --reference tells it."},
    )
    vision_heads: int | None = field(
        default=None, metadata={"help": "Attention heads of the image tower. By default its width divided by 64."}
    )
    text_heads: int | None = field(
        default=None, metadata={"help": "Attention heads of the text tower. By default its width divided by 64."}
    )
    model_config: str | None = field(
        default=None,
        metadata={
            "help": "Configuration of the authors: open_clip_config.json or LLaVA's config.json. By default the one "
            "beside the source."
        },
    )
    image_size: int | None = field(
        default=None,
        metadata={
            "help": "Resize CLIP's position embeddings to images of this side, in pixels.",
            "group": "what to do",
        },
    )
    num_negatives: int = field(default=4, metadata={"help": "Number of thresholds of a ce_clip."})
    bpe: str | None = field(
        default=None, metadata={"help": "OpenAI's bpe_simple_vocab_16e6.txt.gz, from which CLIP's tokenizer is made."}
    )
    vision_tower: str | None = field(
        default=None, metadata={"help": "CLIP in transformers' layout, for a LLaVA that came without its image tower."}
    )
    tokenizer: str | None = field(
        default=None, metadata={"help": "Folder of LLaVA's tokenizer. By default the source, where it has one."}
    )
    reference: str | None = field(
        default=None,
        metadata={
            "help": "Safetensors file of inputs and of the original model's answers, which the result must repeat: see "
            "modeling/conversion/reference.py.",
            "group": "what to do",
        },
    )
    tolerance: float = field(
        default=1e-3, metadata={"help": "Largest accepted difference from the reference.", "group": "what to do"}
    )
    shard_gb: float = field(
        default=5.0, metadata={"help": "Most gigabytes per file; memory holds about one file.", "group": "output"}
    )

    @property
    def folder(self) -> Path:
        """The folder of the result."""
        return Path(self.output_dir)

    @property
    def beside(self) -> Path:
        """The folder that holds the files which belong to the source."""
        source = Path(self.source)
        return source if source.is_dir() else source.parent
