"""Show what an image adds to each token of a text, as the weight that CAL gives the token.

    compalign tokens --model runs/cal_scenes --image photo.jpg --text "a red circle above a blue star"

Prints each token with its weight, and writes tokens.png and tokens.html into the output folder.
"""

import html
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import torch
from PIL import Image
from transformers import AutoModelForImageTextToText, AutoProcessor, PreTrainedModel, ProcessorMixin

from ..data.conversation_encoding import conversation_encoder
from ..data.images import open_image
from ..trainers.cal import label_deltas
from ..trainers.contrast_pass import contrast_mode, watched_forward
from ..trainers.recipe import parse_recipe
from ..trainers.token_losses import IGNORED, visual_token_weights

COLOUR_MAP = "YlOrRd"
TOKENS_A_LINE = 10


@dataclass
class TokensArguments:
    """What to look at."""

    model: str = field(metadata={"help": "Image-text-to-text model: a Hub id or a folder."})
    image: str = field(metadata={"help": "Image file."})
    text: str = field(metadata={"help": "The answer whose tokens are weighted."})
    prompt: str = field(default="Describe the image.", metadata={"help": "What the user says before it."})
    output_dir: str = field(default="tokens", metadata={"help": "Where the two pictures of the weights go."})
    clamp: list[float] = field(default_factory=lambda: [1.0, 5.0], metadata={"help": "Least and largest weight."})
    window: int = field(default=3, metadata={"help": "Tokens over which weights are smoothed, odd."})


class TokenWeight(NamedTuple):
    """A token of the answer, what the image adds to its logit, and its weight."""

    token: str
    delta: float
    weight: float


def main(arguments: list[str] | None = None) -> list[TokenWeight]:
    """Print the weights and draw them."""
    (args,) = parse_recipe(TokensArguments, arguments=arguments, description=__doc__)
    model = AutoModelForImageTextToText.from_pretrained(args.model, dtype=torch.float32).eval()
    processor, image = AutoProcessor.from_pretrained(args.model), open_image(args.image)
    weights = weigh_tokens(model, processor, image, args.prompt, args.text, tuple(args.clamp), args.window)
    print(f"{'token':>16}  {'delta':>7}  weight")
    for token, delta, weight in weights:
        print(f"{token:>16}  {delta:7.2f}  {weight:6.2f}  {'#' * round(4 * weight)}")
    folder = Path(args.output_dir)
    folder.mkdir(parents=True, exist_ok=True)
    draw(weights, image, tuple(args.clamp), folder / "tokens.png")
    (folder / "tokens.html").write_text(as_html(weights, tuple(args.clamp)), encoding="utf-8")
    print(f"wrote {folder / 'tokens.png'} and {folder / 'tokens.html'}")
    return weights


@torch.no_grad()
def weigh_tokens(
    model: PreTrainedModel,
    processor: ProcessorMixin,
    image: Image.Image,
    prompt: str,
    text: str,
    clamp: tuple[float, float] = (1.0, 5.0),
    window: int = 3,
) -> list[TokenWeight]:
    """Weigh the tokens of an answer about an image.

    Args:
        model, processor: An image-text-to-text model, in evaluation mode.
        image (`PIL.Image.Image`): What the text is about.
        prompt, text (`str`): What the user says, and the answer.
        clamp, window: See `visual_token_weights`.

    Returns:
        `list[TokenWeight]`: in the order of the text; its end token comes last.
    """
    question = [{"type": "image"}, {"type": "text", "text": prompt}]
    answer = [{"type": "text", "text": text}]
    messages = [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
    row = conversation_encoder(model, processor)({"images": [image], "messages": messages})
    batch = {name: value for name, value in row.items() if isinstance(value, torch.Tensor)}
    labels = batch.pop("labels")
    _, call = watched_forward(model, model, batch)
    delta = label_deltas(model, batch, labels, call, contrast_mode(model, labels.shape[1]))
    supervised = labels[:, 1:] != IGNORED
    weights = visual_token_weights(delta, supervised, clamp, window)
    tokens = processor.tokenizer.convert_ids_to_tokens(labels[:, 1:][supervised].tolist())
    return [
        TokenWeight(*values)
        for values in zip(tokens, delta[supervised].tolist(), weights[supervised].tolist(), strict=True)
    ]


def draw(weights: list[TokenWeight], image: Image.Image, clamp: tuple[float, float], path: Path) -> None:
    """Draw the image with its text below, each token on the colour of its weight."""
    from matplotlib import colormaps
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize
    from matplotlib.figure import Figure
    from matplotlib.patches import Rectangle

    lines = [weights[start : start + TOKENS_A_LINE] for start in range(0, len(weights), TOKENS_A_LINE)]
    figure = Figure(figsize=(9, 3.2 + 0.5 * len(lines)), layout="constrained", dpi=150)
    above, below = figure.subplots(2, 1, height_ratios=[3, 0.2 + 0.5 * len(lines)])
    above.imshow(image)
    above.set_axis_off()
    below.set_axis_off()
    below.set(xlim=(0, TOKENS_A_LINE), ylim=(len(lines), 0))
    norm, colours = Normalize(*clamp), colormaps[COLOUR_MAP]
    for row, line in enumerate(lines):
        for column, (token, _, weight) in enumerate(line):
            shade = norm(weight)
            below.add_patch(Rectangle((column, row), 1, 0.92, color=colours(shade)))
            colour = "white" if shade > 0.6 else "black"
            below.text(column + 0.5, row + 0.34, token.strip("▁Ġ"), ha="center", va="center", color=colour)
            below.text(column + 0.5, row + 0.74, f"{weight:.1f}", ha="center", va="center", color=colour, fontsize=7)
    figure.colorbar(ScalarMappable(norm, COLOUR_MAP), ax=above, label="weight of a token", shrink=0.8, panchor=(0, 0.5))
    figure.savefig(path, format="png")


def as_html(weights: list[TokenWeight], clamp: tuple[float, float]) -> str:
    """Return the text as a page on which each token has the colour of its weight; its numbers show when pointed at."""
    least, largest = clamp
    spans = [
        f'<span title="delta {delta:.2f}, weight {weight:.2f}" '
        f'style="background: rgba(214, 69, 0, {(weight - least) / max(largest - least, 1e-9):.2f}); padding: 0 .2em">'
        f"{html.escape(token.strip('▁Ġ'))}</span>"
        for token, delta, weight in weights
    ]
    return f'<!doctype html>\n<meta charset="utf-8">\n<title>Weights of tokens</title>\n<p>{" ".join(spans)}</p>\n'
