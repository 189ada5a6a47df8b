"""Origin of a file's modules: alpha and flags that trainers leave in the metadata, or beside the file.

PEFT / diffusers: `lora_adapter_metadata` in the header, or `adapter_config.json` beside the file. LyCORIS:
`ss_network_args`, and the date, because versions between April and July 2024 stored the alpha of rs-LoRA raw.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timezone
from typing import Any

from lib_lora.adapters.patterns import Patterns
from lib_lora.algorithms.base import Origin
from lib_lora.describe.metadata import parsed

COMPONENTS = ("unet", "transformer", "text_encoder", "text_encoder_2", "text_encoder_3")
STARTS = ("init_lora_weights", "lora_init_type", "initialize")
MAX_TERMS = 30
MAX_NUMBER = 1e9  # of alpha and rank
RAW_RS_LORA = (datetime(2024, 4, 5, tzinfo=timezone.utc), datetime(2024, 7, 9, tzinfo=timezone.utc))


class Origins:
    """Says of each module of one file what is known of it. Raises ValueError for patterns that would take too long."""

    def __init__(self, metadata: Mapping[str, str], config: Mapping[str, Any] | None = None) -> None:
        self.configs: dict[str, Mapping[str, Any]] = _by_component(parsed(metadata, "lora_adapter_metadata"))
        if not self.configs and config:
            self.configs = {"": config}
        self._patterns = {name: Patterns(_by_text(each.get("alpha_pattern"))) for name, each in self.configs.items()}
        arguments = parsed(metadata, "ss_network_args")
        self.arguments: Mapping[str, Any] = arguments if isinstance(arguments, dict) else {}
        self.rs_lora = _is_true(self.arguments.get("rs_lora"))
        date = _date(metadata)
        self.root = self.rs_lora and date is not None and RAW_RS_LORA[0] <= date < RAW_RS_LORA[1]
        self.kohya_oft = metadata.get("ss_network_module") == "networks.oft"
        self.onetrainer = "ot_branch" in metadata or "ot_config" in metadata
        is_random = _word(self.arguments.get("use_data_init")) == "false"
        self.start = _start(metadata, self.arguments)
        self.singular = "random" if is_random else _word(self.arguments.get("sig_type")) or "principal"

    def of(self, module: str) -> Origin:
        """What is known of the module that the file calls `module`."""
        name, path = self._config(module)
        config = self.configs.get(name, {})
        alpha = self._alpha(name, config, path)
        return Origin(
            alpha=_number(alpha),
            is_alpha_broken=_number(alpha) is None and isinstance(alpha, int | float) and not isinstance(alpha, bool),
            alpha_root=config.get("use_rslora") is True,
            root=self.root,
            rs_lora=self.rs_lora,
            kohya_oft=self.kohya_oft or module.startswith("oft_unet_"),
            onetrainer=self.onetrainer or module.startswith(("lora_unet_", "lora_te")),
            rank=_positive(config.get("r")),
            terms=_terms(config),
            singular=self.singular,
            start=_start(config) or self.start,
        )

    def _config(self, module: str) -> tuple[str, str]:
        """The name of the module's configuration, and the module's path in it."""
        first, _, rest = module.partition(".")
        component, path = (first, rest) if first in COMPONENTS else ("", module)
        path = path.removeprefix("base_model.model.")
        for name in (component, "", *(("unet", "transformer") if not component else ())):
            if name in self.configs:
                return name, path
        return "", path

    def _alpha(self, name: str, config: Mapping[str, Any], path: str) -> Any:
        found = self._patterns[name].find(path) if name in self._patterns else None
        return config.get("lora_alpha", config.get("alpha")) if found is None else found


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


def _by_text(patterns: Any) -> dict[str, Any]:
    return patterns if isinstance(patterns, dict) else {}


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
    """A finite number of no more than usual digits."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < MAX_NUMBER
    return float(value) if is_number else None


def _positive(value: Any) -> float | None:
    found = _number(value)
    return found if found and found > 0 else None


def _word(value: Any) -> str:
    """"true" for "True" and for true; a list or the like says nothing."""
    return str(value).lower() if isinstance(value, str | bool | int) else ""


def _is_true(value: Any) -> bool:
    return _word(value) in ("true", "1")


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
