"""WebUI: a runner that is a running WebUI, started with --api and with this extension in it.

Adapters are told apart by what they hold, not by name: a file that is called otherwise there is used under its name
there, and one that only has the same name is not.
"""

from __future__ import annotations

import base64
import contextlib
import io
import json
import re
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from http.client import HTTPException
from pathlib import PurePath
from typing import Any
from urllib.parse import quote, urlsplit

from PIL import Image

from lib_lora.compare.runner import Drawn, Ground, Needed, Task
from lib_lora.errors import LoraError, RunnerError
from lib_lora.formats.png import png_of
from lib_lora.grammar.scan import renamed

QUICK, PATIENT = 30, 3600  # seconds
PAGE = 500  # adapters asked for at once
OTHERS = ("localhost", "127.0.0.1", "::1")  # no proxy leads there
DECIDING = ("sd_vae", "CLIP_stop_at_last_layers", "randn_source", "eta_noise_seed_delta", "token_merging_ratio")
STEPS, GUIDANCE, SAMPLER = 20, 7.0, "Euler"
SIDES = {"SD 1.5": 512, "SD 2": 768, "SDXL": 1024}  # by the beginning of what a family is called
SIDE = 512  # of the others
PROBLEMS = re.compile(r'Lora problems: ("(?:\\.|[^"\\])*"|[^,\n]*)')
HASHES = re.compile(r'Lora hashes: ("(?:\\.|[^"\\])*"|[^,\n]*)')
SEPARATORS = str.maketrans("", "", ":,")  # which names in `Lora hashes` are without


class WebUI:
    """`model`: the checkpoint it shall draw with; None: the one that it has loaded."""

    def __init__(self, address: str, model: str | None = None) -> None:
        """Raises RunnerError if `address` is none."""
        parts = urlsplit(address if "://" in address else f"http://{address}")
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise RunnerError(f"{address}: no address of a WebUI; write http://host:7860")
        host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
        self.name = f"{host}:{parts.port}" if parts.port else host
        self._address = f"{parts.scheme}://{self.name}{parts.path.rstrip('/')}"
        self._headers = {"Content-Type": "application/json"}
        if parts.username is not None:  # --api-auth
            pair = f"{parts.username}:{parts.password or ''}".encode()
            self._headers["Authorization"] = f"Basic {base64.b64encode(pair).decode()}"
        near = [urllib.request.ProxyHandler({})] if parts.hostname in OTHERS else []
        self._opener = urllib.request.build_opener(*near)
        self._model = model
        self._title = ""
        self._names: dict[str, str] = {}  # {key of a file: what a tag says there}
        self._busy = False

    def open(self) -> Ground:
        """See Runner."""
        options = self._ask("/sdapi/v1/options")
        models = self._ask("/sdapi/v1/sd-models")
        chosen = self._chosen(models, options.get("sd_model_checkpoint") or "")
        self._title = chosen["title"]
        is_loaded = self._title == options.get("sd_model_checkpoint")
        checkpoint = chosen.get("sha256") or (is_loaded and options.get("sd_checkpoint_hash")) or self._title
        settings = ", ".join(f"{name} {options[name]}" for name in DECIDING if options.get(name) not in (None, "", 0))
        engine = ", ".join(each for each in (f"WebUI {self._version()}", settings) if each)
        side = self._side()
        return Ground(engine, checkpoint, chosen["model_name"], STEPS, GUIDANCE, (side, side), SAMPLER)

    def lacks(self, needed: Sequence[Needed]) -> dict[str, str]:
        """See Runner."""
        by_size: dict[int, list[dict[str, Any]]] = {}
        for card in self._cards():
            by_size.setdefault(card["size"], []).append(card)
        missing: dict[str, str] = {}
        for each in needed:
            same = [card for card in by_size.get(each.size, []) if self._is(card, each)]
            if same:
                self._names[each.key] = (same[0].get("names") or [same[0]["name"]])[0]
            else:
                missing[each.key] = f"{self.name} has no file like {each.name}; cells with it are drawn elsewhere"
        return missing

    def draw(self, task: Task) -> Drawn:
        """See Runner."""
        names = {each.name: self._names.get(each.key) for each in task.files}
        payload = {
            "prompt": renamed(task.prompt, names.get), "negative_prompt": task.negative, "seed": task.seed,
            "steps": task.steps, "cfg_scale": task.guidance, "width": task.size[0], "height": task.size[1],
            "sampler_name": task.sampler, "save_images": False, "send_images": True,
            "override_settings": {"sd_model_checkpoint": self._title}, "override_settings_restore_afterwards": False,
        }  # fmt: skip
        self._busy = True
        try:
            answer = self._ask("/sdapi/v1/txt2img", payload, patience=PATIENT)
        finally:
            self._busy = False
        try:
            text = json.loads(answer["info"])["infotexts"][0]
            png = _png(base64.b64decode(answer["images"][0]), text)
        except (KeyError, IndexError, TypeError, ValueError, OSError) as error:
            raise RunnerError("it answered with something that is no picture") from error
        problem = value_of(PROBLEMS, text)
        return Drawn(None if problem and is_missing(text, names) else png, problem)

    def close(self) -> None:
        """See Runner: what it is drawing for us is broken off."""
        if self._busy:
            with contextlib.suppress(LoraError):
                self._ask("/sdapi/v1/interrupt", {}, patience=QUICK)

    # what it tells of itself

    def _chosen(self, models: Sequence[Mapping[str, Any]], loaded: str) -> Mapping[str, Any]:
        wanted = self._model
        for each in models:
            known = (each["title"], each["model_name"], PurePath(each.get("filename") or "").name)
            if each["title"] == loaded if wanted is None else wanted in known or PurePath(wanted).name in known:
                return each
        if wanted is None:
            return {"title": loaded, "model_name": loaded}
        raise RunnerError(f"it has no checkpoint {wanted}")

    def _version(self) -> str:
        try:
            return str(self._ask("/internal/sysinfo").get("Version") or "unknown")
        except RunnerError:
            raise
        except LoraError:  # an older one
            return "unknown"

    def _side(self) -> int:
        try:
            told = (self._ask("/lora/v1/cards").get("checkpoint") or {}).get("label") or ""
        except RunnerError:
            raise
        except LoraError:
            return SIDE
        return side_of(told)

    def _cards(self) -> list[dict[str, Any]]:
        cards: list[dict[str, Any]] = []
        while True:
            try:
                told = self._ask(f"/lora/v1/adapters?limit={PAGE}&offset={len(cards)}&sort=path")
            except RunnerError:
                raise
            except LoraError as error:
                raise RunnerError(f"it lacks this extension, by which files are told apart ({error})") from error
            cards += told["items"]
            if len(cards) >= told["total"] or not told["items"]:
                return cards

    def _is(self, card: Mapping[str, Any], needed: Needed) -> bool:
        """Whether it is the very file; a file of the same size is hashed there, once in its life."""
        told = self._ask(f"/lora/v1/adapters/{quote(str(card['id']))}?hashes=1", patience=PATIENT)
        return bool(needed.sha256) and told.get("sha256") == needed.sha256

    def _ask(self, path: str, payload: Any = None, *, patience: float = QUICK) -> Any:
        """Raises RunnerError if nobody answers, LoraError for what the WebUI refuses."""
        body = None if payload is None else json.dumps(payload).encode()
        request = urllib.request.Request(self._address + path, body, self._headers)
        try:
            with self._opener.open(request, timeout=patience) as answer:
                return json.loads(answer.read())
        except urllib.error.HTTPError as error:
            raise self._refused(path, error) from error
        except (OSError, HTTPException) as error:
            reason = getattr(error, "reason", None) or error
            raise RunnerError(f"it does not answer ({reason})") from error
        except ValueError as error:
            raise RunnerError(f"it answers {path} with something that is no JSON") from error

    def _refused(self, path: str, error: urllib.error.HTTPError) -> LoraError:
        if error.code in (401, 403):
            return RunnerError("it wants a name and a password; write http://name:password@host:7860")
        if error.code == 404 and path.startswith("/sdapi/"):
            return RunnerError("it was started without --api")
        if error.code in (502, 503, 504):
            return RunnerError(f"it is not there any more (status {error.code})")
        said = ""
        with contextlib.suppress(OSError, ValueError, AttributeError, HTTPException):
            told = json.loads(error.read())
            said = str(told.get("errors") or told.get("detail") or told.get("error") or "")
        return LoraError(f"{self.name}: {said or error.reason} (status {error.code})"[:500])


def side_of(family: str) -> int:
    """Pixels that suit models of what the label says."""
    return next((side for start, side in SIDES.items() if family.startswith(start)), SIDE)


def _png(content: bytes, text: str) -> bytes:
    """Whatever format it sends, with the text where ours have it."""
    with Image.open(io.BytesIO(content)) as image:
        return png_of(image.convert("RGB"), text)


def value_of(pattern: re.Pattern[str], text: str) -> str:
    """What a picture's text says there; empty: nothing."""
    found = pattern.search(text)
    if not found:
        return ""
    return str(json.loads(found[1])) if found[1].startswith('"') else found[1].strip()


def is_missing(text: str, names: Mapping[str, str | None]) -> bool:
    """Whether an adapter that was asked for is not among those that the picture's text names."""
    told = value_of(HASHES, text)
    active = {each.rpartition(":")[0].strip() for each in told.split(",")}
    return not all((there or name).translate(SEPARATORS) in active for name, there in names.items())
