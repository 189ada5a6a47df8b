"""What the standalone page consists of: Gradio components, and what happens when one is used."""

from __future__ import annotations

import html
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

import gradio as gr

from lib_lora.browser.markup import listing_html, strip_html
from lib_lora.demo.studio import Cancelled, Studio
from lib_lora.drawing.demo_files import MODEL
from lib_lora.drawing.draw import defaults
from lib_lora.drawing.pipelines import model_name
from lib_lora.errors import LoraError
from lib_lora.grammar.tag import LoraTag, read_prompt

T = TypeVar("T")
PROMPT = "#lora-prompt textarea"
NEGATIVE = "#lora-negative"
FIELDS = {name: f"#lora-{name} input[type=number]" for name in ("steps", "width", "height")}
MAX_PICTURES = 8
LIVE_SIDE = 256  # pixels; larger pictures are not redrawn while a slider moves, unless the user asks for it
PROGRESS = gr.Progress()  # as a default it makes Gradio pass in the bar of the running event
QUIET: dict[str, Any] = {"queue": False, "show_progress": "hidden", "api_visibility": "private"}
DEMO = (  # for the demo model; shown as far as the adapters are there
    "a large red heart on a white background <lora:outline:1>",
    "a large yellow star on a blue background <lora:night:0.8>",
    "a small green circle on a white background <lora:bigger:1>",
    "a medium blue cross on a yellow background <lora:outline:0.8> <lora:spotlight:1>",
    "a large white circle on a blue background <lora:warm:1> <lora:outline:-0.6>",
    "a large red circle on a white background",
)
ELSEWHERE = ("a lighthouse at dusk, oil painting", "portrait of a fox, ink drawing")


def build_page(studio: Studio) -> gr.Blocks:
    """Two tabs: draw, and the adapters."""
    pipe = studio.attached.pipe
    usual = defaults(pipe)
    side, multiple = max(usual.size), pipe.vae_scale_factor
    with gr.Blocks(title="lib_lora", analytics_enabled=False, fill_width=False) as page:
        gr.HTML(_headline(pipe), apply_default_css=False, elem_id="lora-headline-holder")
        last_seed = gr.State(-1)
        with gr.Tabs(elem_id="lora-tabs"):
            with gr.Tab("Draw", id="draw"), gr.Row(equal_height=False, elem_id="lora-desk"):
                with gr.Column(scale=6, min_width=330, elem_id="lora-left"):
                    with gr.Column(elem_id="lora-compose"):
                        prompt = gr.Textbox(
                            label="Prompt",
                            lines=3,
                            max_lines=12,
                            elem_id="lora-prompt",
                            autofocus=True,
                            value=_examples(studio)[0],
                            placeholder="a castle <lora:name:0.8>",
                        )
                        gr.HTML(strip_html(PROMPT, fields=FIELDS), apply_default_css=False, elem_id="lora-strip-holder")
                        with gr.Row(elem_id="lora-actions"):
                            generate = gr.Button(
                                "Generate", variant="primary", size="lg", elem_id="lora-generate", scale=3
                            )
                            cancel = gr.Button(
                                "Cancel", size="lg", elem_id="lora-cancel", scale=1, min_width=100, interactive=False
                            )
                        redraw = gr.Button("Redraw", visible="hidden", elem_id="lora-redraw")
                        gr.Checkbox(
                            label="Redraw while I move sliders, with the same seed",
                            elem_id="lora-live",
                            value=side <= LIVE_SIDE,
                            container=False,
                        )
                    with gr.Group(elem_id="lora-settings"):
                        negative = gr.Textbox(label="Negative prompt", lines=1, max_lines=6, elem_id="lora-negative")
                        gr.HTML(
                            strip_html(NEGATIVE, fields=FIELDS, is_negative=True),
                            apply_default_css=False,
                            elem_id="lora-negative-strip",
                        )
                        with gr.Row():
                            steps = gr.Slider(1, 100, value=usual.steps, step=1, label="Steps", elem_id="lora-steps")
                            guidance = gr.Slider(1, 20, value=usual.guidance, step=0.1, label="Guidance")
                        with gr.Row():
                            width = gr.Slider(
                                64,
                                max(4 * side, 512),
                                value=usual.size[0],
                                step=multiple,
                                label="Width",
                                elem_id="lora-width",
                            )
                            height = gr.Slider(
                                64,
                                max(4 * side, 512),
                                value=usual.size[1],
                                step=multiple,
                                label="Height",
                                elem_id="lora-height",
                            )
                        with gr.Row():
                            seed = gr.Number(
                                -1, label="Seed, -1 for a new one each time", precision=0, elem_id="lora-seed"
                            )
                            count = gr.Slider(1, MAX_PICTURES, value=1, step=1, label="Pictures", elem_id="lora-count")
                    with gr.Row(elem_id="lora-seed-buttons"):
                        keep = gr.Button("Keep the last seed", size="sm", min_width=80)
                        dice = gr.Button("Random seed", size="sm", min_width=80)
                with gr.Column(scale=5, min_width=330, elem_id="lora-right"):
                    gallery = gr.Gallery(
                        label="Pictures",
                        show_label=False,
                        elem_id="lora-gallery",
                        columns=1,
                        object_fit="contain",
                        format="png",
                        buttons=["download", "fullscreen"],
                    )
                    report = gr.HTML(_told("", []), elem_id="lora-report", apply_default_css=False)
                    with gr.Column(elem_id="lora-examples"):
                        gr.HTML("<h2>Try one of these</h2>", apply_default_css=False)
                        for example in _examples(studio):
                            gr.Button(example, size="sm").click(
                                _constant(example),
                                None,
                                prompt,
                                **QUIET,
                            )
            with gr.Tab("Adapters", id="adapters"):
                gr.HTML(listing_html({"Prompt": PROMPT}), apply_default_css=False, elem_id="lora-listing-holder")

        fields = [prompt, negative, steps, guidance, seed, width, height, count, last_seed]
        shown = [gallery, report, last_seed, cancel]
        common: dict[str, Any] = {
            "outputs": shown,
            "concurrency_id": "model",
            "concurrency_limit": 1,
            "show_progress_on": [gallery],
        }
        fresh = _drawer(studio, is_redraw=False)
        generate.click(fresh, fields, **common, api_name="draw")
        prompt.submit(fresh, fields, **common, api_visibility="private")
        redraw.click(
            _drawer(studio, is_redraw=True),
            fields,
            **{**common, "show_progress": "hidden"},
            trigger_mode="always_last",
            api_visibility="private",
        )
        cancel.click(studio.cancel, **QUIET)
        keep.click(lambda last: last, last_seed, seed, **QUIET)
        dice.click(_constant(-1), None, seed, **QUIET)
    return page


def _drawer(studio: Studio, *, is_redraw: bool) -> Callable[..., Iterator[tuple[Any, ...]]]:
    """What a click on Generate does. Outputs: gallery, report, last seed, cancel button."""

    def run(
        prompt: str,
        negative: str,
        steps: float,
        guidance: float,
        seed: float | None,
        width: float,
        height: float,
        count: float,
        last: int,
        progress: gr.Progress = PROGRESS,
    ) -> Iterator[tuple[Any, ...]]:
        yield gr.skip(), gr.skip(), last, gr.update(interactive=True)
        wanted = -1 if seed is None else int(seed)
        if is_redraw and wanted < 0:
            wanted = last
        pictures: Any = gr.skip()
        try:
            drawn = studio.draw(
                prompt,
                lambda done, total: progress((done, total), desc="Drawing", unit="steps"),
                negative=negative,
                steps=int(steps),
                guidance=guidance,
                seed=wanted,
                size=(int(width), int(height)),
                count=int(count),
            )
            last = drawn.seed
            pictures = gr.update(value=list(drawn.pictures), columns=1 if len(drawn.pictures) == 1 else 2)
            said = _told(f"Seed {last} · {drawn.seconds:.1f} s", drawn.sentences)
        except Cancelled as error:
            said = _told(str(error), [])
        except LoraError as error:
            said = _told("Nothing was drawn.", [str(error)])
        yield pictures, said, last, gr.update(interactive=False)

    return run


def _told(line: str, sentences: Sequence[str]) -> str:
    problems = "".join(f"<li>{html.escape(sentence)}</li>" for sentence in sentences)
    return f'<p>{html.escape(line)}</p><ul role="alert">{problems}</ul>' if problems else f"<p>{html.escape(line)}</p>"


def _headline(pipe: Any) -> str:
    return f'<header id="lora-headline"><h1>lib_lora</h1><span>{html.escape(model_name(pipe))}</span></header>'


def _examples(studio: Studio) -> list[str]:
    """Prompts to begin with; for another model than the demo's, with its first few adapters."""
    library = studio.attached.library
    fitting = [entry for entry in library.entries() if not entry.broken and entry.family.fits(studio.family)]
    if getattr(studio.attached.pipe, "name_or_path", None) == str(MODEL):
        names = {entry.stem for entry in fitting}
        shown = [text for text in DEMO if {tag.name for tag in read_prompt(text).tags} <= names]
        if len(shown) > 1:
            return shown
    subjects = [ELSEWHERE[place % len(ELSEWHERE)] for place in range(len(fitting))]
    tags = [LoraTag(entry.stem, weight, weight) for entry in fitting for weight in [entry.preferred_weight or 1.0]]
    return [*(f"{subject} {tag}" for subject, tag in list(zip(subjects, tags, strict=True))[:5]), *ELSEWHERE]


def _constant(value: T) -> Callable[[], T]:
    return lambda: value
