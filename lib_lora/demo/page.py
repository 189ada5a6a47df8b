"""The standalone page: a diffusers pipeline behind Gradio, served with the routes of the listing."""

from __future__ import annotations

import os
import socket
import sys
import threading
import time
import webbrowser
from collections.abc import Sequence
from pathlib import Path

os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")  # before gradio is imported: it asks its servers at import

import gradio as gr
import uvicorn
from fastapi import FastAPI
from starlette.middleware.gzip import GZipMiddleware

from lib_lora.browser.hosts import KnownHosts, is_loopback
from lib_lora.browser.loaded import LoadedModel
from lib_lora.browser.markup import head_html
from lib_lora.browser.routes import add_routes
from lib_lora.compare import routes
from lib_lora.compare.jobs import Jobs
from lib_lora.demo.comparing import host_of
from lib_lora.demo.interface import build_page
from lib_lora.demo.studio import Studio
from lib_lora.drawing.demo_files import ADAPTERS
from lib_lora.drawing.pipelines import load_pipeline, model_name
from lib_lora.errors import LoraError
from lib_lora.library.place import default_index

HERE = Path(__file__).parent
PORTS = range(7860, 7960)
PAUSE = 0.02  # seconds between two looks of Gradio's queue whether there is something to do; left alone it is 0.001
FONT = ("system-ui", "-apple-system", "Segoe UI", "Roboto", "Noto Sans", "sans-serif")
MONO = ("ui-monospace", "SFMono-Regular", "Menlo", "Consolas", "monospace")


def launch(
    model: str | Path | None = None,
    lora_dir: str | Path | Sequence[str | Path] | None = None,
    host: str = "127.0.0.1",
    port: int | None = None,
    open_browser: bool = True,
    allowed_hosts: Sequence[str] = (),
) -> None:
    """Load the model and serve the page until Ctrl-C. Raises CheckpointError, and LoraError if the port is taken.

    A page that listens on this computer only is shown under this computer's names and `allowed_hosts`.
    """
    given = [lora_dir] if isinstance(lora_dir, str | Path) else list(lora_dir or [ADAPTERS])
    folders = [Path(folder) for folder in given]
    listener = listen(host, port)
    started = time.perf_counter()
    print(f"Loading {Path(model).name if model else 'the demo model'} ...", flush=True)
    pipe = load_pipeline(model)
    studio = Studio(
        pipe, folders, outputs=Path.cwd() / "outputs", database=None if folders == [ADAPTERS] else default_index()
    )
    studio.attached.library.refresh(_show_progress)
    count = len(studio.attached.library.entries())
    app = build_app(studio, hosts=(host, *allowed_hosts) if is_loopback(host) else ("*",))
    shown_host = "localhost" if host in ("127.0.0.1", "0.0.0.0", "::", "") else host
    address = f"http://{shown_host}:{listener.getsockname()[1]}"
    print(f"{model_name(pipe)} on {pipe.device}, {count} adapters, {time.perf_counter() - started:.1f} s", flush=True)
    server = uvicorn.Server(uvicorn.Config(app, log_level="warning", timeout_graceful_shutdown=1))
    if open_browser:
        threading.Timer(0.5, webbrowser.open, [address]).start()
    print(f"Open {address}   (Ctrl-C ends)", flush=True)
    server.run(sockets=[listener])
    app.state.comparisons.end()


def build_app(studio: Studio, *, hosts: Sequence[str] = ()) -> FastAPI:
    """The routes of the listing, and the page at `/`. `hosts`: see `KnownHosts`."""
    app = FastAPI(title="lib_lora", docs_url=None, redoc_url=None, openapi_url=None)
    app.add_middleware(GZipMiddleware, minimum_size=10_000)
    app.add_middleware(KnownHosts, allowed=hosts)
    model = LoadedModel(lambda: studio.attached.host, lambda: studio.place, studio.turns.first)
    add_routes(app, studio.attached.library, checkpoint=lambda: studio.family, model=model)
    comparisons = Jobs(host_of(studio))
    routes.add_routes(app, comparisons)
    app.state.comparisons = comparisons
    page = build_page(studio)
    rest(page)
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


def rest(page: gr.Blocks) -> None:
    """Let Gradio's queue sleep longer: it looks a thousand times a second, which is a twelfth of a core for nothing."""
    queue = page._queue
    queue.sleep_when_free = queue.progress_update_sleep_when_free = PAUSE


def listen(host: str, port: int | None) -> socket.socket:
    """A listening socket: on `port`, or on the first free one. Raises LoraError."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    for number in PORTS if port is None else (port,):
        listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)  # asyncio sets NODELAY for that only
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


def _show_progress(done: int, total: int) -> None:
    if sys.stdout.isatty():
        print(f"\rReading adapters: {done} of {total}", end="\n" if done == total else "", flush=True)
