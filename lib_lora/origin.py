"""Origin of a file's modules: alpha and flags that trainers leave in the metadata, or beside the file.

PEFT / diffusers: `lora_adapter_metadata` in the header, or `adapter_config.json` beside the file. LyCORIS:
`ss_network_args`, and the date, because versions between April and July 2024 stored the alpha of rs-LoRA raw.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Mapping
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from lib_lora.algorithms import Origin
from lib_lora.metadata import parsed
from lib_lora.unpickling import PICKLES

COMPONENTS = ("unet", "transformer", "text_encoder", "text_encoder_2", "text_encoder_3")
CONFIG = "adapter_config.json"
STARTS = ("init_lora_weights", "lora_init_type", "initialize")
MAX_TERMS = 30
MAX_CONFIG = 1024 * 1024  # bytes
RAW_RS_LORA = (datetime(2024, 4, 5, tzinfo=timezone.utc), datetime(2024, 7, 9, tzinfo=timezone.utc))
# Regular expressions that PEFT's patterns may be; others could be made to take for ever.
HARMLESS = re.compile(r"(?:[\w^$]|\\?\.|\\d\+?|\[\d-\d\]\+?|\.[*+]|\([\w.|\\]*\)){1,200}")


class Origins:
    """Says of each module of one file what is known of it."""

    def __init__(self, metadata: Mapping[str, str], config: Mapping[str, Any] | None = None) -> None:
        self.configs: dict[str, Mapping[str, Any]] = _by_component(parsed(metadata, "lora_adapter_metadata"))
        if not self.configs and config:
            self.configs = {"": config}
        arguments = parsed(metadata, "ss_network_args")
        self.arguments: Mapping[str, Any] = arguments if isinstance(arguments, dict) else {}
        self.rs_lora = _is_true(self.arguments.get("rs_lora"))
        date = _date(metadata)
        self.root = self.rs_lora and date is not None and RAW_RS_LORA[0] <= date < RAW_RS_LORA[1]
        self.kohya_oft = metadata.get("ss_network_module") == "networks.oft"
        self.onetrainer = "ot_branch" in metadata or "ot_config" in metadata
        is_random = str(self.arguments.get("use_data_init", "True")).lower() == "false"
        self.start = _start(metadata, self.arguments)
        self.singular = "random" if is_random else str(self.arguments.get("sig_type", "principal"))

    def of(self, module: str) -> Origin:
        """What is known of the module that the file calls `module`."""
        config, path = self._config(module)
        alpha = _alpha(config, path)
        return Origin(
            alpha=_number(alpha),
            is_alpha_broken=isinstance(alpha, float) and not math.isfinite(alpha),
            alpha_root=config.get("use_rslora") is True,
            root=self.root,
            rs_lora=self.rs_lora,
            kohya_oft=self.kohya_oft or module.startswith("oft_unet_"),
            onetrainer=self.onetrainer or module.startswith(("lora_unet_", "lora_te")),
            rank=_number(config.get("r")) or None,
            terms=_terms(config),
            singular=self.singular,
            start=_start(config) or self.start,
        )

    def _config(self, module: str) -> tuple[Mapping[str, Any], str]:
        """The configuration of the module's component, and the module's path in it."""
        first, _, rest = module.partition(".")
        component, path = (first, rest) if first in COMPONENTS else ("", module)
        path = path.removeprefix("base_model.model.")
        for name in (component, "", *(("unet", "transformer") if not component else ())):
            if name in self.configs:
                return self.configs[name], path
        return {}, path


def read_config(path: Path) -> Mapping[str, Any] | None:
    """The `adapter_config.json` of a file, or None: among several adapters it belongs to the name that PEFT gives."""
    config = config_of(path)
    if config is None:
        return None
    try:
        if config.stat().st_size > MAX_CONFIG:
            return None
        read = json.loads(config.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
    return read if isinstance(read, dict) else None


def config_of(path: Path) -> Path | None:
    """Where it lies, if it does."""
    config = path.with_name(CONFIG)
    if not config.is_file():
        return None
    others = (
        each
        for each in path.parent.iterdir()
        if each.suffix.lower() in (".safetensors", *PICKLES) and each.name != path.name
    )
    return config if path.stem == "adapter_model" or next(others, None) is None else None


def _by_component(flat: Any) -> dict[str, Mapping[str, Any]]:
    """`{"unet.r": 4, …}` -> `{"unet": {"r": 4, …}}`."""
    configs: dict[str, dict[str, Any]] = {}
    for key, value in flat.items() if isinstance(flat, dict) else ():
        component, dot, field = str(key).partition(".")
        if component in COMPONENTS and dot:
            configs.setdefault(component, {})[field] = value
        elif not dot:
            configs.setdefault("", {})[component] = value
    return dict(configs)


def _alpha(config: Mapping[str, Any], path: str) -> Any:
    patterns = config.get("alpha_pattern")
    found: Any = config.get("lora_alpha", config.get("alpha"))
    for pattern, alpha in patterns.items() if isinstance(patterns, dict) else ():
        if _matches(pattern, path):
            found = alpha
            break
    return found


def _start(*told: Mapping[str, Any]) -> str:
    """How the factors were started, in lower case: PEFT's `init_lora_weights`, or what other trainers call it."""
    for name in STARTS:
        for values in told:
            if isinstance(value := values.get(name), str | bool):
                return str(value).strip().lower().replace("-", "_")
    return ""


def _terms(config: Mapping[str, Any]) -> int:
    """Of the Neumann series of OFT v2."""
    if config.get("use_cayley_neumann") is False:
        return 0
    terms = _number(config.get("num_cayley_neumann_terms"))
    return int(terms) if terms and 3 <= terms <= MAX_TERMS else 5


def _number(value: Any) -> float | None:
    is_number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    return float(value) if is_number else None


def _matches(pattern: str, path: str) -> bool:
    """As PEFT: the end of the path. Patterns that are no plain path and no simple expression match nothing."""
    if path == pattern or path.endswith(f".{pattern}"):
        return True
    if not HARMLESS.fullmatch(pattern) or pattern.count("*") + pattern.count("+") > 3:
        return False
    try:
        return re.match(rf"(.*\.)?({pattern})$", path[:300]) is not None
    except re.error:
        return False


def _is_true(value: Any) -> bool:
    return str(value).lower() in ("true", "1")


def _date(metadata: Mapping[str, str]) -> datetime | None:
    """When the training was."""
    for key in ("ss_training_finished_at", "ss_training_started_at"):
        try:
            return datetime.fromtimestamp(float(metadata[key]), timezone.utc)
        except (KeyError, ValueError, OverflowError, OSError):
            continue
    try:
        return datetime.fromisoformat(metadata["modelspec.date"][:10]).replace(tzinfo=timezone.utc)
    except (KeyError, ValueError):
        return None


def stamps(paths: Iterable[Path | None]) -> tuple[tuple[int, int] | None, ...]:
    """(modification time, size) of each, None of what is not there. Raises OSError."""
    return tuple(None if path is None else (path.stat().st_mtime_ns, path.stat().st_size) for path in paths)
