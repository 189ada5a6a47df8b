"""The built-in Lora extension's options: its own where it is enabled, the same ones brought by us where it is not."""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable
from typing import Any

import gradio as gr
from modules import shared

from lib_lora.browser.together import LIMIT
from lib_lora.webui.names.protocols import Option

SECTION = ("extra_networks", "Extra Networks")
COMPATIBILITY = ("compatibility", "Compatibility")
NAMES = ("Alias from file", "Filename")
DEFAULTS: dict[str, Any] = {
    "sd_lora": "None",
    "lora_preferred_name": NAMES[0],
    "lora_add_hashes_to_infotext": True,
    "lora_bundled_ti_to_infotext": True,
    "lora_show_all": False,
    "lora_other_base_models": "dim",
    "lora_hide_unknown_for_versions": [],
    "lora_in_memory_limit": 0,
    "lora_not_found_warning_console": False,
    "lora_not_found_gradio_warning": False,
    "lora_functional": False,
    "lora_originals": "auto",
    "lora_memory_budget": 0,
    "lora_together_limit": LIMIT,
    "lora_block_presets": "",
    "lora_element_presets": "",
}


def get(name: str) -> Any:
    """The value of one of the options above; its default where nobody has registered it."""
    return getattr(shared.opts, name, DEFAULTS[name])


class Options:
    """Registers what is missing, points what is there at our list of adapters, and takes both back."""

    def __init__(self, choices: Callable[[], Iterable[str]], refresh: Callable[[], None]) -> None:
        self._choices = choices  # names for the drop-down list
        self._refresh = refresh
        self._added: list[str] = []
        self._changed: list[tuple[Option, str, Any]] = []  # (option, attribute, value before)

    def install(self) -> None:
        """Before the WebUI builds its settings page and its API models."""
        labels = shared.opts.data_labels
        for name, option in self._missing(labels).items():
            option.section = COMPATIBILITY if name == "lora_functional" else SECTION
            labels[name] = option
            self._added.append(name)
        if "sd_lora" not in self._added:
            self._point(labels["sd_lora"], "component_args", self._drop_down)
            self._point(labels["sd_lora"], "refresh", self._refresh)
        if "lora_in_memory_limit" not in self._added:
            self._point(labels["lora_in_memory_limit"], "onchange", None)

    def remove(self) -> None:
        """As if we had never been here; values the user chose stay in the configuration."""
        for name in self._added:
            shared.opts.data_labels.pop(name, None)
        for option, attribute, value in reversed(self._changed):
            setattr(option, attribute, value)
        self._added, self._changed = [], []

    def _point(self, option: Option, attribute: str, value: Any) -> None:
        self._changed.append((option, attribute, getattr(option, attribute)))
        setattr(option, attribute, value)

    def _drop_down(self) -> dict[str, Any]:
        return {"choices": ["None", *self._choices()]}

    def _missing(self, known: Container[str]) -> dict[str, Option]:
        info = shared.OptionInfo
        options = {
            "sd_lora": info("None", "Add network to prompt", gr.Dropdown, self._drop_down, refresh=self._refresh),
            "lora_preferred_name": info(
                NAMES[0], "When adding to prompt, refer to Lora by", gr.Radio, {"choices": list(NAMES)}),
            "lora_add_hashes_to_infotext": info(True, "Add Lora hashes to infotext"),
            "lora_bundled_ti_to_infotext": info(
                True, "Add Lora name as TI hashes for embeddings inside adapter files"),
            "lora_show_all": info(False, "Always show all networks on the Lora page").info(
                "those for another base model than the checkpoint's like all others"),
            "lora_other_base_models": info(
                "dim", "Adapters for another base model on the Lora page", gr.Radio, {"choices": ["dim", "hide"]}).info(
                "dim: shown last, with the reason"),
            "lora_hide_unknown_for_versions": info(
                [], "Hide adapters of unknown base model when the checkpoint is", gr.CheckboxGroup,
                {"choices": ["SD1", "SD2", "SDXL"]}),
            "lora_in_memory_limit": info(
                0, "Adapters to keep open beyond those of the last prompts", gr.Number, {"precision": 0}),
            "lora_not_found_warning_console": info(False, "Lora not found warning in console").info(
                "problems are always written there once, so this changes nothing any more"),
            "lora_not_found_gradio_warning": info(False, "Lora not found warning popup in webui"),
            "lora_functional": info(False, "Lora: apply while drawing instead of merging").info(
                "the same picture, a little slower in each step; weights that cannot be merged are always done so"),
            "lora_originals": info(
                "auto", "Untouched weights, while adapters are active", gr.Radio,
                {"choices": ["auto", "device", "cpu", "checkpoint"]}).info(
                "device: kept beside the others, fastest; cpu: in main memory; checkpoint: not kept but read again "
                "from its .safetensors file; auto: device while there is room"),
            "lora_memory_budget": info(
                0, "Memory for adapter files (MB)", gr.Number, {"precision": 0}).info(
                "those of earlier prompts stay in memory as long as all together fit into it, so that a change back "
                "reads no file"),
            "lora_together_limit": info(
                LIMIT, "Warn where adapters together do so many times what one does", gr.Number).info(
                "in the line below the tags of a prompt, before a picture is made; 0: never"),
            "lora_block_presets": info(
                "", "Presets of block weights", gr.Textbox,
                {"lines": 4, "placeholder": "FACE:1,0,0,0,0,0,1,1,1,1,1,1,0,0,0,0,0"}).info(
                "NAME:numbers, one in a line: <lora:name:1:lbw=NAME>"),
            "lora_element_presets": info(
                "", "Presets of elements", gr.Textbox, {"lines": 2, "placeholder": "CALM:IN05-OUT05:attn:0.5"}).info(
                "NAME:BLOCKS:ELEMENTS:RATIO, an empty line between two: <lora:name:1:lbwe=NAME>"),
        }
        return {name: option for name, option in options.items() if name not in known}
