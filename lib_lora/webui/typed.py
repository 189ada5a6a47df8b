"""Tags as people type them, where the WebUI reads prompts.

The WebUI cuts `<name:...>` out of a prompt with an expression of its own before it calls anybody: `<LoRA:`, `< lora:`,
`＜lora：` and tags whose end is missing would be drawn as words, and thousands of `<lora:` would keep it busy for
minutes. So ours are cut out first. The prompts that a picture's text shows stay as they were typed.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from modules import extra_networks, patches

from lib_lora.errors import TagError
from lib_lora.grammar.scan import split_body, without
from lib_lora.grammar.tag import LoraTag, Typed, read_tag, typed_tags

PATCHED = (extra_networks, "parse_prompt")
NEGATIVE = ("negative_prompts", "hr_negative_prompts")  # of the pictures that are made at once


class TypedParams(extra_networks.ExtraNetworkParams):
    """What the WebUI hands to `activate` for one tag; others read it too, so that its numbers are in plain signs."""

    def __init__(self, typed: Typed) -> None:
        super().__init__(split_body(typed.found.body))
        self.error = typed.error


def install() -> None:
    """Through the WebUI's own register of patches."""
    original = getattr(*PATCHED)

    def parse_prompt(prompt: str) -> tuple[str, Any]:
        typed = list(typed_tags(prompt))
        text, networks = original(without(prompt))
        if typed:
            networks["lora"].extend(map(TypedParams, typed))
        return text, networks

    patches.patch(__name__, *PATCHED, parse_prompt)


def remove() -> None:
    """The WebUI reads prompts alone."""
    patches.undo(__name__, *PATCHED)


def read_params(params_list: Iterable[Any]) -> tuple[list[LoraTag], list[TagError]]:
    """The tags, and those that cannot be read. The WebUI has split them at every ':'."""
    tags: list[LoraTag] = []
    errors: list[TagError] = []
    for params in params_list:
        try:
            if error := getattr(params, "error", None):
                raise error
            tags.append(read_tag(":".join(str(item) for item in params.items)))
        except TagError as error:
            errors.append(error)
    return tags, errors


def cut_negative(p: Any) -> None:
    """Tags of negative prompts have no effect: what is encoded is without them."""
    for name in NEGATIVE:
        if prompts := getattr(p, name, None):
            setattr(p, name, [without(prompt) for prompt in prompts])
