"""A real WebUI as a subprocess, in a data folder of its own, and pictures from it."""

from __future__ import annotations

import base64
import io
import json
import os
import shutil
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from tests.webui.environment import ENVIRONMENT

ROOT = Path(__file__).parents[2]
EXTENSION = (
    "lib_lora",
    "scripts",
    "javascript",
    "style.css",
    "metadata.ini",
    "install.py",
    "pyproject.toml",
    "LICENSE",
)
FLAGS = """--skip-prepare-environment --skip-torch-cuda-test --skip-python-version-check --skip-version-check
    --use-cpu all --no-download-sd-model --do-not-download-clip --api"""
FULL = "--no-half --no-half-vae --precision full"
OFFLINE = {
    "HF_HUB_OFFLINE": "1",
    "TRANSFORMERS_OFFLINE": "1",
    "GRADIO_ANALYTICS_ENABLED": "False",
    "AWS_EC2_METADATA_DISABLED": "true",  # where boto3 is, Gradio asks whether this is a notebook at Amazon's
    "PYTHONUNBUFFERED": "1",
    "CUDA_VISIBLE_DEVICES": "",
    "no_proxy": "127.0.0.1",
}
QUIET = {"live_previews_enable": False}
PAYLOAD = {"steps": 3, "width": 64, "height": 64, "seed": 1, "cfg_scale": 7, "sampler_name": "Euler"}
PATIENCE = 300  # seconds
LOCAL = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # a proxy is for what is elsewhere


@dataclass
class Drawn:
    """What one request brought."""

    pictures: list[np.ndarray]  # (height, width, 3), uint8
    texts: list[str]  # what the PNG says

    @property
    def picture(self) -> np.ndarray:
        return self.pictures[0]

    @property
    def text(self) -> str:
        return self.texts[0]


class WebUI:
    """`data`: its data folder; `extension`: with a copy of this repository in it; `options`: of its config.json.

    Whatever the options, it draws no live previews: for those of SDXL it would download a decoder.
    `probe`: what the extension of the tests shall change in it (see probe.py); `neighbours`: other extensions' folders.
    """

    def __init__(
        self,
        data: Path,
        checkpoints: Path,
        *,
        checkpoint: str = "tiny-sd1.safetensors",
        extension: bool = True,
        disabled: tuple[str, ...] = (),
        flags: str = FULL,
        options: Mapping[str, Any] | None = None,
        probe: str = "",
        neighbours: Iterable[Path] = (),
        root: Path | None = ENVIRONMENT.root,
        python: str = ENVIRONMENT.python,
        threads: int = 1,
    ) -> None:
        self.data = data
        self.loras = data / "models" / "Lora"
        self.log = data / "webui.log"
        self._command = [python, "launch.py", *FLAGS.split(), *flags.split(), "--data-dir", str(data),
                         "--ckpt-dir", str(checkpoints), "--ckpt", str(checkpoints / checkpoint)]
        self._root = root
        self._environment = {"OMP_NUM_THREADS": str(threads), "MKL_NUM_THREADS": str(threads), "LORA_PROBE": probe}
        self._process: subprocess.Popen | None = None
        for folder in (self.loras, data / "extensions", data / "embeddings"):
            folder.mkdir(parents=True, exist_ok=True)
        self.config = data / "config.json"
        self.config.write_text(json.dumps({"disabled_extensions": list(disabled), **(options or {}), **QUIET}))
        scripts = data / "extensions" / "probe" / "scripts"
        scripts.mkdir(parents=True)
        shutil.copy(Path(__file__).with_name("probe.py"), scripts)
        for neighbour in neighbours:  # they write into their own folders
            shutil.copytree(neighbour, data / "extensions" / neighbour.name, ignore=shutil.ignore_patterns(".git"))
        if extension:
            copy_extension(data / "extensions" / "lib_lora")

    def start(self) -> WebUI:
        """Until it answers."""
        self.launch()
        return self.wait()

    def launch(self) -> None:
        """Go on while it starts. No request before `wait` returns: one that comes too early breaks its start."""
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        self.url = f"http://127.0.0.1:{port}"
        with self.log.open("w") as log:
            self._process = subprocess.Popen(
                [*self._command, "--port", str(port)],
                cwd=self._root,
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
                env={**os.environ, **OFFLINE, **self._environment},
            )

    def wait(self) -> WebUI:
        """Until it answers and its first checkpoint is there."""
        self.wait_for("Startup time:")
        self.wait_for("Model loaded in")
        return self

    def wait_for(self, text: str, times: int = 1) -> None:
        """Until the log says `text`, `times` times."""
        end = time.monotonic() + PATIENCE
        while self.log.read_text(errors="replace").count(text) < times:
            assert self._process, "not started"
            assert self._process.poll() is None, self.log.read_text()[-3000:]
            assert time.monotonic() < end, self.log.read_text()[-3000:]
            time.sleep(0.2)

    def stop(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    @property
    def pid(self) -> int:
        """Of its process."""
        assert self._process, "not started"
        return self._process.pid

    def request(self, path: str, payload: Any = None, *, method: str | None = None) -> Any:
        body = None if payload is None else json.dumps(payload).encode()
        request = urllib.request.Request(self.url + path, body, {"Content-Type": "application/json"}, method=method)
        try:
            with LOCAL.open(request, timeout=PATIENCE) as answer:
                return json.loads(answer.read() or "null")
        except urllib.error.HTTPError as error:
            raise AssertionError(
                f"{path}: {error.code} {error.read()[:500]!r}\n{self.log.read_text()[-3000:]}"
            ) from error

    def draw(self, prompt: str, **options: Any) -> Drawn:
        """One small picture (or more), with the prompt's text as the PNG has it."""
        kind = "img2img" if "init_images" in options else "txt2img"
        answer = self.request(f"/sdapi/v1/{kind}", {"prompt": prompt, **PAYLOAD, **options})
        pictures = [np.asarray(Image.open(io.BytesIO(base64.b64decode(each)))) for each in answer["images"]]
        return Drawn(pictures, json.loads(answer["info"])["infotexts"])

    def reload(self, **options: Any) -> None:
        """"Reload UI", with other options if any."""
        if options:
            self.request("/sdapi/v1/options", options)
        starts = self.log.read_text(errors="replace").count("Startup time:")
        self.request("/probe/reload", {})
        self.wait_for("Startup time:", starts + 1)

    def checkpoint(self, name: str) -> None:
        self.request("/sdapi/v1/options", {"sd_model_checkpoint": name})

    def parse(self, infotext: str) -> dict[str, Any]:
        """What pasting this text gives, the extensions' callbacks included."""
        from PIL.PngImagePlugin import PngInfo

        info, file = PngInfo(), io.BytesIO()
        info.add_text("parameters", infotext)
        Image.new("RGB", (8, 8)).save(file, "png", pnginfo=info)
        return self.request("/sdapi/v1/png-info", {"image": base64.b64encode(file.getvalue()).decode()})["parameters"]


def copy_extension(target: Path) -> None:
    """The files that a clone would have there."""
    for name in EXTENSION:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, target / name, ignore=shutil.ignore_patterns("__pycache__", "demo"))
        elif source.exists():
            target.mkdir(parents=True, exist_ok=True)
            shutil.copy(source, target / name)


def png(picture: np.ndarray) -> str:
    """A picture as the API takes it."""
    file = io.BytesIO()
    Image.fromarray(picture).save(file, "png")
    return base64.b64encode(file.getvalue()).decode()


def difference(one: np.ndarray, other: np.ndarray) -> int:
    """The largest difference of a channel of a pixel, of 255."""
    return int(np.abs(one.astype(int) - other.astype(int)).max())
