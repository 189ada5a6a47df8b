"""Which tags each picture of a batch has: those of its own prompt and of its own negative prompt, in this pass."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from lib_lora.errors import LoraError
from lib_lora.grammar.editing import lettered
from lib_lora.grammar.tag import LoraTag
from lib_lora.grammar.who import Stage
from lib_lora.session.wanted import Tags, Wanted
from lib_lora.webui.a1111.passes import Pass
from lib_lora.webui.names.presets import known_presets
from lib_lora.webui.names.protocols import ExtraNetworkData, Params, Processing
from lib_lora.webui.typed import TypedParams, TypedPrompts, read_params, take_negative

Errors = tuple[LoraError, ...]


def asked(p: Processing, params_list: Sequence[Params], networks: ExtraNetworkData | None) -> Wanted:
    """Of the batch whose extra networks are activated. `params_list`: the first prompt's tags, in the WebUI's words.

    Where other extensions activate what they have put together themselves, it is for all pictures.
    """
    take_negative(p)
    if not isinstance(networks, TypedPrompts) or not networks.are(params_list):
        return for_all(p, params_list)
    is_hires = networks is getattr(p, "hr_extra_network_data", None) or bool(getattr(p, "is_hr_pass", False))
    read = _read(p, networks.prompts, is_hires=is_hires)
    negative = _read(p, networks.negative or (), is_hires=is_hires, is_negative=True)[: len(read)]
    negative += [((), ())] * (len(read) - len(negative))
    wanted = Wanted(
        tuple(tags for tags, _ in read),
        tuple(tags for tags, _ in negative),
        Stage(hires=is_hires),
        tuple(errors + others for (_, errors), (_, others) in zip(read, negative, strict=True)),
        tuple(int(seed) for seed in getattr(p, "seeds", None) or ()),
        known_presets(),
    )
    return with_tags(wanted, *read_params(each for each in params_list if not isinstance(each, TypedParams)))


def for_all(p: Processing, params_list: Sequence[Params]) -> Wanted:
    """Every picture has these."""
    tags, errors = read_params(params_list)
    pictures = max(len(getattr(p, "prompts", None) or ()), 1)
    return Wanted((tags,) * pictures, errors=(errors,) * pictures, presets=known_presets())


def with_tags(wanted: Wanted, tags: Sequence[LoraTag], errors: Errors = ()) -> Wanted:
    """The same, and `tags` for every picture."""
    return replace(
        wanted,
        prompts=tuple((*own, *tags) for own in wanted.prompts),
        errors=tuple((*own, *errors) for own in wanted.errors),
    )


def _read(
    p: Processing, prompts: Sequence[str], *, is_hires: bool, is_negative: bool = False
) -> list[tuple[Tags, Errors]]:
    """`(the tags, what cannot be read)` of each."""
    read: dict[str, tuple[Tags, Errors]] = {}
    for prompt in dict.fromkeys(prompts):
        found = lettered(prompt)
        tags = Pass.of(p, is_hires=is_hires).shown(found, is_negative=is_negative) if found.tags else ()
        read[prompt] = tags, found.errors
    return [read[prompt] for prompt in prompts]
