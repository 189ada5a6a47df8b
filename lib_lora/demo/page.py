"""The standalone page: Gradio around one diffusers pipeline, the strip below the prompt and the listing in a tab."""

from __future__ import annotations

import html
import os
import socket
import threading
import time
import webbrowser
from collections.abc import Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")  # before gradio is imported: it asks its servers at import

import gradio as gr
import uvicorn
from fastapi import FastAPI
from starlette.middleware.gzip import GZipMiddleware

from lib_lora.browser.markup import head_html, listing_html, strip_html
from lib_lora.browser.routes import add_routes
from lib_lora.demo.drawing import Picture, defaults, draw, save_png
from lib_lora.demo.models import ADAPTERS, MODEL, load_pipeline, model_name
from lib_lora.diffusers_host import Attached
from lib_lora.errors import LoraError
from lib_lora.library import Library

HERE = Path(__file__).parent
PORTS = range(7860, 7960)
PROMPT = "#lora-prompt textarea"
FONT = ("system-ui", "-apple-system", "Segoe UI", "Roboto", "Noto Sans", "sans-serif")
MONO = ("ui-monospace", "SFMono-Regular", "Menlo", "Consolas", "monospace")
MAX_PICTURES = 8
PROGRESS = gr.Progress()  # as a default it makes Gradio pass in the bar of the running event
SUBJECTS = (  # what the demo model can draw
    "a large red circle on a white background",
    "a small yellow star on a blue background",
    "a medium green heart on a black background",
)
ELSEWHERE = ("a lighthouse at dusk, oil painting", "portrait of a fox, ink drawing")


class Cancelled(Exception):
    """The user stopped the drawing."""


class Studio:
    """The model with its adapters: one drawing at a time, and a way to stop it."""

    def __init__(self, pipe: Any, folders: Sequence[Path], *, outputs: Path, database: Path | None = None) -> None:
        self.attached = Attached(pipe, Library(folders, database=database))
        self.outputs = outputs
        self.family = self.attached.session.host.targets().family
        self._lock = threading.Lock()
        self._stop = threading.Event()

    def draw(self, prompt: str, on_step: Any, **options: Any) -> tuple[list[tuple[str, str]], list[str], int, float]:
        """`(file and caption of each picture, sentences, first seed, seconds)`. Raises Cancelled and LoraError."""

        def step(done: int, total: int) -> None:
            if self._stop.is_set():
                raise Cancelled(f"Stopped after {done} of {total} steps.")
            on_step(done, total)

        with self._lock:
            self._stop.clear()
            started = time.perf_counter()
            try:
                drawing = draw(self.attached, prompt, on_step=step, **options)
            except BaseException:
                self.attached.clear()
                raise
            seconds = time.perf_counter() - started
            tags = " ".join(
                _caption(report.tag) for report in drawing.report.applied if report.tag.te or report.tag.unet
            )
            shown = [(str(self._save(picture)), f"seed {picture.seed}" + (f" · {tags}" if tags else ""))
                     for picture in drawing.pictures]  # fmt: skip
        return shown, drawing.report.sentences(), drawing.pictures[0].seed, seconds

    def cancel(self) -> None:
        """Stop at the end of the present step."""
        self._stop.set()

    def _save(self, picture: Picture) -> Path:
        now = datetime.now()
        folder = self.outputs / now.strftime("%Y-%m-%d")
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"{now.strftime('%H%M%S-%f')[:-3]}-{picture.seed}.png"
        save_png(picture, path)
        return path


def launch(
    model: str | Path | None = None,
    lora_dir: str | Path | Sequence[str | Path] | None = None,
    host: str = "127.0.0.1",
    port: int | None = None,
    open_browser: bool = True,
) -> None:
    """Load the model and serve the page until Ctrl-C. Raises CheckpointError, and LoraError if the port is taken."""
    given = [lora_dir] if isinstance(lora_dir, str | Path) else list(lora_dir or [ADAPTERS])
    folders = [Path(folder) for folder in given]
    listener = _listen(host, port)
    started = time.perf_counter()
    print(f"Loading {Path(model).name if model else 'the demo model'} ...", flush=True)
    pipe = load_pipeline(model)
    studio = Studio(
        pipe, folders, outputs=Path.cwd() / "outputs", database=None if folders == [ADAPTERS] else _database()
    )
    studio.attached.library.refresh(_print_progress)
    count = len(studio.attached.library.entries())
    app = build_app(studio)
    shown_host = "localhost" if host in ("127.0.0.1", "0.0.0.0", "::", "") else host
    address = f"http://{shown_host}:{listener.getsockname()[1]}"
    print(f"{model_name(pipe)} on {pipe.device}, {count} adapters, {time.perf_counter() - started:.1f} s", flush=True)
    server = uvicorn.Server(uvicorn.Config(app, log_level="warning", timeout_graceful_shutdown=1))
    if open_browser:
        threading.Timer(0.5, webbrowser.open, [address]).start()
    print(f"Open {address}   (Ctrl-C ends)", flush=True)
    server.run(sockets=[listener])


def build_app(studio: Studio) -> FastAPI:
    """The routes of the listing, and the page at `/`."""
    app = FastAPI(title="lib_lora", docs_url=None, redoc_url=None, openapi_url=None)
    app.add_middleware(GZipMiddleware, minimum_size=10_000)
    add_routes(app, studio.attached.library, checkpoint=lambda: studio.family)
    page = build_page(studio)
    # greys without a tint: colours are judged here
    theme = gr.themes.Default(
        primary_hue="indigo", secondary_hue="indigo", neutral_hue="zinc", radius_size="md", font=FONT, font_mono=MONO
    )
    theme = theme.set(body_text_color_subdued="*neutral_500", body_text_color_subdued_dark="*neutral_400")
    studio.outputs.mkdir(parents=True, exist_ok=True)
    return gr.mount_gradio_app(
        app,
        page,
        path="/",
        theme=theme,
        head=head_html() + f"<script>{(HERE / 'page.js').read_text('utf-8')}</script>",
        css=(HERE / "page.css").read_text("utf-8"),
        footer_links=[],
        allowed_paths=[str(studio.outputs)],
        ssr_mode=False,
        pwa=False,
        run_history=False,
        show_error=True,
    )


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
                        gr.HTML(strip_html(PROMPT), apply_default_css=False, elem_id="lora-strip-holder")
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
                            value=side <= 256,
                            container=False,
                        )
                    with gr.Group(elem_id="lora-settings"):
                        negative = gr.Textbox(label="Negative prompt", lines=1, max_lines=6, elem_id="lora-negative")
                        with gr.Row():
                            steps = gr.Slider(1, 100, value=usual.steps, step=1, label="Steps", elem_id="lora-steps")
                            guidance = gr.Slider(1, 20, value=usual.guidance, step=0.1, label="Guidance")
                        with gr.Row():
                            width = gr.Slider(64, max(4 * side, 512), value=usual.size[0], step=multiple, label="Width")
                            height = gr.Slider(
                                64, max(4 * side, 512), value=usual.size[1], step=multiple, label="Height"
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
                                queue=False,
                                show_progress="hidden",
                                api_visibility="private",
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
        cancel.click(studio.cancel, queue=False, show_progress="hidden", api_visibility="private")
        keep.click(lambda last: last, last_seed, seed, queue=False, show_progress="hidden", api_visibility="private")
        dice.click(_constant(-1), None, seed, queue=False, show_progress="hidden", api_visibility="private")
    return page


def _drawer(studio: Studio, *, is_redraw: bool) -> Any:
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
            pictures, sentences, last, seconds = studio.draw(
                prompt,
                lambda done, total: progress((done, total), desc="Drawing", unit="steps"),
                negative=negative,
                steps=int(steps),
                guidance=guidance,
                seed=wanted,
                size=(int(width), int(height)),
                count=int(count),
            )
            pictures = gr.update(value=pictures, columns=1 if len(pictures) == 1 else 2)
            said = _told(f"Seed {last} · {seconds:.1f} s", sentences)
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


def _caption(tag: Any) -> str:
    return f"{tag.name} {tag.te:g}" + (f"/{tag.unet:g}" if tag.unet != tag.te else "")


def _examples(studio: Studio) -> list[str]:
    """Prompts to begin with: plain ones, and some with the installed adapters that fit."""
    is_demo = getattr(studio.attached.pipe, "name_or_path", None) == str(MODEL)
    subjects = SUBJECTS if is_demo else ELSEWHERE
    entries = [
        entry for entry in studio.attached.library.entries() if not entry.broken and entry.family.fits(studio.family)
    ]
    tagged = [f"{subjects[place % len(subjects)]} <lora:{entry.stem}:{1 if place % 3 else 0.8}>"
              for place, entry in enumerate(entries[:5])]  # fmt: skip
    both = [f"{subjects[0]} <lora:{entries[0].stem}:0.8> <lora:{entries[1].stem}:0.6>"] if len(entries) > 1 else []
    return [*tagged[:1], *both, *tagged[1:], subjects[0], subjects[1]]


def _constant(value: Any) -> Any:
    return lambda: value


def _listen(host: str, port: int | None) -> socket.socket:
    """A listening socket: on `port`, or on the first free one. Raises LoraError."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    for number in PORTS if port is None else (port,):
        listener = socket.socket(family, socket.SOCK_STREAM)
        if os.name != "nt":
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((host, number))
            listener.listen(128)
        except OSError as error:
            listener.close()
            if port is not None:
                raise LoraError(
                    f"port {port} on {host} cannot be opened ({error.strerror}); try another --port"
                ) from error
        else:
            return listener
    raise LoraError(f"no free port from {PORTS[0]} to {PORTS[-1]} on {host}; name one with --port")


def _database() -> Path | None:
    """Where the index of the user's own folders is kept; None (in memory) if nothing can be written there."""
    folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "lib_lora"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        return None
    return folder / "library.sqlite"


def _print_progress(done: int, total: int) -> None:
    print(f"Reading adapters: {done} of {total}", flush=True)
