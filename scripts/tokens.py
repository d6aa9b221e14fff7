"""Show what an image adds to each token of a text, as the weight that CAL gives the token.

    compalign tokens --model runs/cal_scenes --image photo.jpg --text "a red cat above a blue star"

Prints each token with its weight, and writes tokens.png and tokens.html into the output folder.
"""

import html
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, NamedTuple

from ..trainers.launch.recipe import parse_recipe

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from PIL import Image
    from transformers import PreTrainedModel, ProcessorMixin

COLOUR_MAP = "YlOrRd"
TOKENS_PER_LINE = 10


@dataclass
class TokensArguments:
    """The answer to weigh, the model, and the settings of CAL."""

    GROUP: ClassVar[str] = "method"

    model: str = field(
        metadata={"help": "Hub id or folder of an image-text-to-text model, or of an adapter of one.", "group": "model"}
    )
    image: str = field(metadata={"help": "Image file.", "group": "data"})
    text: str = field(metadata={"help": "The answer whose tokens are weighed.", "group": "data"})
    prompt: str = field(
        default="Describe the image.", metadata={"help": "The user's words before the answer.", "group": "data"}
    )
    cal_clamp: list[float] = field(default_factory=lambda: [1.0, 5.0], metadata={"help": "Least and largest weight."})
    cal_window: int = field(default=3, metadata={"help": "Odd number of tokens over which weights are averaged."})
    output_dir: str = field(default="tokens", metadata={"help": "Folder of the two pictures.", "group": "output"})


class TokenWeight(NamedTuple):
    """A token of the answer, what the image adds to its logit, and its weight."""

    token: str
    delta: float
    weight: float


def main(arguments: list[str] | None = None) -> list[TokenWeight]:
    """Print the weights and draw them."""
    (args,) = parse_recipe(TokensArguments, arguments=arguments, description=__doc__, command="compalign tokens")
    if len(args.cal_clamp) != 2 or args.cal_clamp[0] > args.cal_clamp[1]:
        raise ValueError(f"--cal_clamp is {args.cal_clamp}; must be two numbers, the least weight and the largest")
    clamp = args.cal_clamp[0], args.cal_clamp[1]
    from ..data.images import open_image
    from ..modeling.kinds import Kind, default_device, load_model, load_processor
    from .scoring.kinds import check_kind

    image = open_image(args.image)
    check_kind(args.model, Kind.IMAGE_TEXT_TO_TEXT)
    model, processor = load_model(args.model, merge_adapter=True).to(default_device()), load_processor(args.model)
    weights = weigh_tokens(model, processor, image, args.prompt, args.text, clamp, args.cal_window)
    print(f"{'token':>16}  {'delta':>7}  weight")
    for token, delta, weight in weights:
        print(f"{token:>16}  {delta:7.2f}  {weight:6.2f}  {'#' * round(4 * weight)}")
    folder = Path(args.output_dir)
    folder.mkdir(parents=True, exist_ok=True)
    draw_weights(weights, image, clamp, folder / "tokens.png")
    (folder / "tokens.html").write_text(as_html(weights, clamp), encoding="utf-8")
    print(f"wrote {folder / 'tokens.png'} and {folder / 'tokens.html'}")
    return weights


def weigh_tokens(
    model: "PreTrainedModel",
    processor: "ProcessorMixin",
    image: "Image.Image",
    prompt: str,
    text: str,
    clamp: tuple[float, float] = (1.0, 5.0),
    window: int = 3,
) -> list[TokenWeight]:
    """Weigh the tokens of an answer about an image.

    Args:
        model, processor: An image-text-to-text model in evaluation mode, and its processor.
        image (`PIL.Image.Image`): The image that the text is about.
        prompt, text (`str`): The user's words, and the answer.
        clamp, window: See `visual_token_weights`.

    Returns:
        `list[TokenWeight]`: In the order of the text; its end token comes last.
    """
    import torch

    from ..data.chat import IGNORED_LABEL
    from ..data.chat.encoder import conversation_encoder
    from ..trainers.cal import label_deltas
    from ..trainers.cal_contrast import contrast_mode, watched_forward
    from ..trainers.losses import visual_token_weights

    question = [{"type": "image"}, {"type": "text", "text": prompt}]
    answer = [{"type": "text", "text": text}]
    messages = [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
    row = conversation_encoder(model, processor)({"images": [image], "messages": messages})
    batch = {name: value.to(model.device) for name, value in row.items() if isinstance(value, torch.Tensor)}
    labels = batch.pop("labels")
    with torch.no_grad():
        _, call = watched_forward(model, model, batch)
        delta = label_deltas(model, batch, labels, call, contrast_mode(model, labels.shape[1]))
    supervised = labels[:, 1:] != IGNORED_LABEL
    weights = visual_token_weights(delta, supervised, clamp, window)
    tokens = processor.tokenizer.convert_ids_to_tokens(labels[:, 1:][supervised].tolist())
    return [
        TokenWeight(*values)
        for values in zip(tokens, delta[supervised].tolist(), weights[supervised].tolist(), strict=True)
    ]


def draw_weights(
    weights: list[TokenWeight],
    image: "Image.Image",
    clamp: tuple[float, float] = (1.0, 5.0),
    path: str | Path | None = None,
) -> "Figure":
    """Draw the image with its text below, each token on the colour of its weight.

    Args:
        weights (`list[TokenWeight]`): The tokens, in order.
        image (`PIL.Image.Image`): The image that the text is about.
        clamp (`tuple[float, float]`): Least and largest weight, the ends of the colours.
        path (`str` or `Path`, *optional*): Picture file to write.

    Returns:
        `matplotlib.figure.Figure`
    """
    from matplotlib import colormaps
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize
    from matplotlib.figure import Figure
    from matplotlib.patches import Rectangle

    lines = [weights[start : start + TOKENS_PER_LINE] for start in range(0, len(weights), TOKENS_PER_LINE)]
    figure = Figure(figsize=(9, 3.2 + 0.5 * len(lines)), layout="constrained", dpi=150)
    above, below = figure.subplots(2, 1, height_ratios=[3, 0.2 + 0.5 * len(lines)])
    above.imshow(image)
    above.set_axis_off()
    below.set_axis_off()
    below.set(xlim=(0, TOKENS_PER_LINE), ylim=(len(lines), 0))
    norm, colours = Normalize(*clamp), colormaps[COLOUR_MAP]
    for row, line in enumerate(lines):
        for column, (token, _, weight) in enumerate(line):
            shade = norm(weight)
            below.add_patch(Rectangle((column, row), 1, 0.92, color=colours(shade)))
            colour = "white" if shade > 0.6 else "black"
            below.text(column + 0.5, row + 0.34, token.strip("▁Ġ"), ha="center", va="center", color=colour)
            below.text(column + 0.5, row + 0.74, f"{weight:.1f}", ha="center", va="center", color=colour, fontsize=7)
    figure.colorbar(ScalarMappable(norm, COLOUR_MAP), ax=above, label="weight of a token", shrink=0.8, panchor=(0, 0.5))
    if path is not None:
        figure.savefig(path, format="png")
    return figure


def as_html(weights: list[TokenWeight], clamp: tuple[float, float]) -> str:
    """Return the text as an HTML page: each token on the colour of its weight, with its numbers on hover."""
    least, largest = clamp
    spans = [
        f'<span title="delta {delta:.2f}, weight {weight:.2f}" '
        f'style="background: rgba(214, 69, 0, {(weight - least) / max(largest - least, 1e-9):.2f}); padding: 0 .2em">'
        f"{html.escape(token.strip('▁Ġ'))}</span>"
        for token, delta, weight in weights
    ]
    return f'<!doctype html>\n<meta charset="utf-8">\n<title>Weights of tokens</title>\n<p>{" ".join(spans)}</p>\n'
