"""Tags as people type them, where the WebUI reads prompts.

The WebUI cuts `<name:...>` out of a prompt with an expression of its own before it calls anybody: `<LoRA:`, `< lora:`,
`＜lora：` and tags whose end is missing would be drawn as words, and thousands of `<lora:` would keep it busy for
minutes. So ours are cut out first. The prompts that a picture's text shows stay as they were typed.

Of all prompts of a batch it hands on the tags of the first; here each one is kept as it was typed.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any

from modules import extra_networks, patches

from lib_lora.errors import LoraError, TagError
from lib_lora.grammar.curve import first
from lib_lora.grammar.number import write_number
from lib_lora.grammar.scan import split_body, without
from lib_lora.grammar.tag import LoraTag, Typed, read_tag, typed_tags
from lib_lora.webui.names.protocols import Params, Processing

PATCHED = (extra_networks, "parse_prompt")
ALL_PATCHED = (extra_networks, "parse_prompts")


class TypedParams(extra_networks.ExtraNetworkParams):
    """What the WebUI hands to `activate` for one tag.

    Others read it too, and call `float` on what they find: so its numbers are in plain signs, and of a tag that says
    more than numbers they get those that it begins with; of one that cannot be read, that it does nothing.
    """

    def __init__(self, typed: Typed) -> None:
        self.tag, self.error = typed.tag, typed.error
        super().__init__(_for_others(typed))
        self.typed = tuple(self.items)

    @property
    def is_as_typed(self) -> bool:
        """False if somebody has put other words into it."""
        return tuple(self.items) == self.typed


def _for_others(typed: Typed) -> list[str]:
    if typed.tag is None:
        return [typed.name, "0", "0"]
    if typed.tag.is_plain:
        return split_body(typed.found.body)
    return [typed.tag.name, write_number(first(typed.tag.te)), write_number(first(typed.tag.unet))]


class TypedPrompts(defaultdict[str, list[Params]]):
    """The first prompt's tags by their kind, which is what the WebUI wants; and all prompts of the batch."""

    def __init__(self, networks: dict[str, list[Params]], prompts: Sequence[str]) -> None:
        super().__init__(list, networks)
        self.prompts = tuple(prompts)  # with their tags
        self.negative: tuple[str, ...] | None = None  # of the same pictures; None: nobody has looked yet

    def are(self, params_list: Iterable[Params]) -> bool:
        """True if `params_list` are our tags of the first prompt, and unchanged."""
        ours = [each for params in self.values() for each in params if isinstance(each, TypedParams)]
        given = [each for each in params_list if isinstance(each, TypedParams)]
        return sorted(map(id, ours)) == sorted(map(id, given)) and all(each.is_as_typed for each in ours)


def install() -> None:
    """Through the WebUI's own register of patches."""
    original, original_of_all = getattr(*PATCHED), getattr(*ALL_PATCHED)

    def parse_prompt(prompt: str) -> tuple[str, Any]:
        typed = list(typed_tags(prompt))
        text, networks = original(without(prompt))
        if typed:
            networks["lora"].extend(map(TypedParams, typed))
        return text, networks

    def parse_prompts(prompts: Sequence[str]) -> tuple[list[str], Any]:
        texts, networks = original_of_all(prompts)
        return texts, networks if networks is None else TypedPrompts(networks, prompts)

    patches.patch(__name__, *PATCHED, parse_prompt)
    patches.patch(__name__, *ALL_PATCHED, parse_prompts)


def remove() -> None:
    """The WebUI reads prompts alone."""
    patches.undo(__name__, *ALL_PATCHED)
    patches.undo(__name__, *PATCHED)


def read_params(params_list: Iterable[Params]) -> tuple[tuple[LoraTag, ...], tuple[LoraError, ...]]:
    """The tags, and those that cannot be read. The WebUI has split them at every ':'."""
    tags: list[LoraTag] = []
    errors: list[LoraError] = []
    for params in params_list:
        try:
            if isinstance(params, TypedParams) and params.is_as_typed:
                tags += [params.tag] if params.tag else []
                errors += [params.error] if params.error else []
            else:
                tags.append(read_tag(":".join(str(item) for item in params.items)))
        except TagError as error:
            errors.append(error)
    return tuple(tags), tuple(errors)


def take_negative(p: Processing) -> None:
    """Cut the tags out of the negative prompts before they are encoded; each pass keeps its own as they were typed."""
    passes = ("extra_network_data", "negative_prompts"), ("hr_extra_network_data", "hr_negative_prompts")
    for holder, name in passes:
        prompts, networks = getattr(p, name, None) or [], getattr(p, holder, None)
        if isinstance(networks, TypedPrompts) and networks.negative is None:
            networks.negative = tuple(prompts)
        if prompts:
            setattr(p, name, [without(prompt) for prompt in prompts])
