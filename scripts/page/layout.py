"""The page: fields, buttons and tabs around functions that know nothing of them."""

from collections.abc import Callable
from functools import wraps
from typing import TYPE_CHECKING, Any

from ...modeling.kinds import Kind
from ..scoring.kinds import IN_WORDS
from .inputs import MOST_BYTES, MOST_CAPTIONS, add_foils, read_captions, read_image, scene_examples, thumbnails
from .models import MOST_MODELS, Library, compare, match, weigh
from .views import match_page, region_figure, score_figure, score_table, token_page, verdict

if TYPE_CHECKING:
    from gradio import Blocks
    from gradio.themes import Base

TITLE = "Which caption is true?"
INTRODUCTION = (
    "Models that know every word of a caption can still miss who does what to whom. Choose an image, write a true "
    "caption and some false ones, and see which the models prefer."
)
HOUR = 3600  # seconds; uploads older than this are deleted, and looked for as often
PROMPT = "Describe the image."
CSS = """
.gradio-container {max-width: 1100px !important; margin: auto !important}
.narrow {max-width: 560px}
.scene {flex-direction: column}
.scene img {width: 72px; height: 72px; border-radius: .25rem}
.matches h3 {font-size: 1rem; margin: 1rem 0 0}
.matches ul {list-style: none; padding: 0; margin: .25rem 0}
.matches li {display: flex; gap: .5rem; padding: .15rem 0; margin: 0}
.matches li span {flex: 0 0 4rem}
.matches li i {margin-left: auto}
.matches b {color: white; border-radius: .25rem; padding: 0 .4rem}
.matches .best {background: #1b7f4d; color: white; border-radius: .25rem; padding: 0 .4rem; font-size: .8rem}
.tokens ruby {border-radius: .25rem; padding: 0 .3rem; margin: 0 .05rem; line-height: 2.4}
.tokens rt {font-size: .7rem; color: var(--body-text-color)}
.tokens .legend span {display: inline-block; width: 6rem; height: .8rem; vertical-align: middle}
"""


def theme() -> "Base":
    """Make the colours and letters of the page."""
    import gradio

    # Letters of the visitor's machine: the usual ones would be fetched from elsewhere.
    chosen = gradio.themes.Default(primary_hue="blue", font=["system-ui", "sans-serif"], font_mono=["monospace"])
    # Darker than the default, for the contrast that small letters need.
    return chosen.set(
        block_info_text_color="*neutral_600",
        block_info_text_color_dark="*neutral_300",
        button_primary_background_fill="*primary_600",
        button_primary_background_fill_hover="*primary_700",
    )


def with_messages(function: Callable) -> dict[str, Any]:
    """Return what an event needs to call a function. A user's error is shown as a message, and the page stays as it is.

    The function is not offered as an interface for programs, which would not see that message.
    """
    import gradio

    @wraps(function)
    def call(*values: Any) -> Any:
        try:
            return function(*values)
        except ValueError as error:
            gradio.Warning(str(error), duration=None)
            return gradio.skip()

    return {"fn": call, "api_visibility": "private"}


def build(library: Library, detector: str | None = None) -> "Blocks":
    """Make the page.

    Args:
        library (`Library`): The models.
        detector (`str`, *optional*): Hub id or folder of the detector that finds the regions of photographs.

    Returns:
        `gradio.Blocks`
    """
    import gradio

    scenes = scene_examples()
    with gradio.Blocks(title=TITLE, analytics_enabled=False, delete_cache=(HOUR, HOUR)) as page:
        gradio.Markdown(f"# {TITLE}\n\n{INTRODUCTION}")
        with gradio.Row():
            with gradio.Column(min_width=300):
                image = gradio.Image(
                    scenes[0].image,
                    label="Image",
                    placeholder=f"Drop a JPEG, PNG or WEBP of at most {MOST_BYTES // 1_000_000} MB here",
                    type="filepath",
                    image_mode=None,  # the file comes as it is, and is opened by `read_image`
                    format="png",
                    sources=["upload", "clipboard"],
                    height=320,
                    alt_text="The image that the captions are about",
                    elem_id="image",
                )
            with gradio.Column(min_width=300):
                captions = gradio.Textbox(
                    scenes[0].text,
                    label="Captions",
                    info=f"One per line, at most {MOST_CAPTIONS}, the true one first. Shift + Enter compares.",
                    lines=5,
                    max_lines=10,
                    elem_id="captions",
                )
                foils = gradio.Button("Propose foils", elem_id="foils")
                done = gradio.Markdown(elem_id="done")
                gradio.Markdown("Or begin with a generated scene:")
                with gradio.Row():
                    buttons = [
                        gradio.Button(f"Scene {number}", icon=icon, size="sm", min_width=60, elem_classes="scene")
                        for number, icon in enumerate(thumbnails(), start=1)
                    ]
        with gradio.Tab("Compare"):
            _compare_tab(library, image, captions, page)
        with gradio.Tab("ComAlign"):
            _comalign_tab(library, image, captions, detector)
        with gradio.Tab("CAL"):
            _cal_tab(library, image, captions)
        foils.click(**with_messages(add_foils), inputs=captions, outputs=[captions, done])
        for button, scene in zip(buttons, scenes, strict=True):
            shown = scene.image, scene.text, ""
            button.click(**with_messages(lambda shown=shown: shown), outputs=[image, captions, done])
    return page


def _compare_tab(library: Library, image: Any, captions: Any, page: "Blocks") -> None:
    """Make the tab of several dual encoders side by side."""
    import gradio

    offered = library.names(Kind.DUAL_ENCODER)

    def answer(names: list[str], path: str | None, text: str) -> tuple[str, Any, str]:
        opened, lines = read_image(path), read_captions(text)
        scores = compare(library, names, opened, lines)
        return verdict(lines, scores), score_figure(lines, scores), score_table(lines, scores)

    names = _model_field(library, Kind.DUAL_ENCODER, offered[:2], multiselect=True)  # room for others
    button = gradio.Button("Compare", variant="primary", elem_id="compare")
    words = gradio.Markdown(elem_id="verdict")
    chart = gradio.Plot(show_label=False, elem_classes="narrow", elem_id="chart")
    with gradio.Accordion("The numbers as a table", open=False):
        numbers = gradio.Markdown(elem_id="numbers")
    fields = {**with_messages(answer), "inputs": [names, image, captions], "outputs": [words, chart, numbers]}
    button.click(**fields)
    captions.submit(**fields)
    if offered:
        page.load(**fields)


def _comalign_tab(library: Library, image: Any, captions: Any, detector: str | None) -> None:
    """Make the tab of regions and the phrases that match them."""
    import gradio

    offered = library.names(Kind.COMALIGN)

    def answer(name: str | None, finder: str | None, path: str | None, text: str) -> tuple[Any, str]:
        opened, lines = read_image(path), read_captions(text)
        row, matched = match(library, name, (finder or "").strip() or None, opened, lines)
        return region_figure(opened, row), match_page(row, matched)

    gradio.Markdown("Which region is each phrase most like, and what does that add to the caption's score?")
    name = _model_field(library, Kind.COMALIGN, offered[:1])
    finder = gradio.Textbox(
        detector or "",
        label="Detector of the regions",
        info="For photographs; the regions of the scenes are known. A Hub id, such as facebook/detr-resnet-50.",
        lines=1,
        max_lines=1,
        elem_id="detector",
    )
    button = gradio.Button("Match", variant="primary", elem_id="match")
    with gradio.Row():
        with gradio.Column(min_width=300):
            boxes = gradio.Plot(show_label=False, elem_id="regions")
        with gradio.Column(min_width=300):
            phrases = gradio.HTML(elem_id="phrases")
    fields = {**with_messages(answer), "inputs": [name, finder, image, captions], "outputs": [boxes, phrases]}
    button.click(**fields)
    finder.submit(**fields)


def _cal_tab(library: Library, image: Any, captions: Any) -> None:
    """Make the tab of the weights of tokens."""
    import gradio

    offered = library.names(Kind.IMAGE_TEXT_TO_TEXT)

    def answer(name: str | None, prompt: str | None, path: str | None, text: str) -> str:
        return token_page(weigh(library, name, prompt, read_image(path), read_captions(text)))

    gradio.Markdown("How much does the image add to each token, if a caption is the answer to the prompt?")
    name = _model_field(library, Kind.IMAGE_TEXT_TO_TEXT, offered[:1])
    prompt = gradio.Textbox(
        PROMPT, label="Prompt", info="Press Enter to weigh.", lines=1, max_lines=1, max_length=300, elem_id="prompt"
    )
    button = gradio.Button("Weigh", variant="primary", elem_id="weigh")
    weights = gradio.HTML(elem_id="weights")
    fields = {**with_messages(answer), "inputs": [name, prompt, image, captions], "outputs": [weights]}
    button.click(**fields)
    prompt.submit(**fields)


def _model_field(library: Library, kind: Kind, chosen: list[str], multiselect: bool = False) -> Any:
    """Make a field in which to choose models of a kind, or to type others."""
    import gradio

    offered = library.names(kind)
    others = "a Hub id or a folder" if library.folders else "a Hub id"
    info = f"{IN_WORDS[kind][0].upper()}{IN_WORDS[kind][1:]}. Choose, or type {others} and press Enter."
    if not offered:
        info = f"None is offered here yet: type {others} of {IN_WORDS[kind]}."
    return gradio.Dropdown(
        offered,
        value=chosen if multiselect else next(iter(chosen), None),
        label="Models" if multiselect else "Model",
        info=info,
        multiselect=multiselect,
        max_choices=MOST_MODELS if multiselect else None,
        allow_custom_value=True,
        elem_id=kind.name.lower(),
    )
