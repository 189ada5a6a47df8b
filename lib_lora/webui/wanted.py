"""Which tags each picture of a batch has: those of its own prompt and of its own negative prompt, in this pass."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from lib_lora.errors import LoraError
from lib_lora.grammar.editing import lettered
from lib_lora.grammar.tag import LoraTag
from lib_lora.grammar.who import Stage
from lib_lora.session.session import Report
from lib_lora.session.wanted import Tags, Wanted
from lib_lora.webui.a1111.passes import Pass
from lib_lora.webui.names.presets import known_presets
from lib_lora.webui.names.protocols import ExtraNetworkData, Params, Processing
from lib_lora.webui.typed import TypedPrompts, read_params, take_negative

Errors = tuple[LoraError, ...]


@dataclass(frozen=True)
class Asked:
    """The tags of the pictures that are made at once, and what of them cannot be read."""

    wanted: Wanted
    errors: tuple[Errors, ...]  # of each picture

    @property
    def all_errors(self) -> Errors:
        """Each once, in order."""
        return tuple({str(error): error for errors in self.errors for error in errors}.values())

    def sentences(self, report: Report, image: int) -> list[str]:
        """What of `report` is worth telling about one picture."""
        own = {str(error) for error in self.errors[min(image, len(self.errors) - 1)]}
        others = {str(error) for error in self.all_errors} - own
        problems = tuple(problem for problem in report.problems if problem not in others)
        adapters = tuple(each for each in report.adapters if each.who.has_picture(image))
        return Report(adapters, problems).sentences()

    def with_tags(self, tags: Sequence[LoraTag], errors: Errors = ()) -> Asked:
        """The same and `tags` for every picture."""
        prompts = tuple((*own, *tags) for own in self.wanted.prompts)
        return Asked(replace(self.wanted, prompts=prompts), tuple((*own, *errors) for own in self.errors))


def asked(p: Processing, params_list: Sequence[Params], networks: ExtraNetworkData | None) -> Asked:
    """Of the batch whose extra networks are activated. `params_list`: the first prompt's tags, in the WebUI's words.

    Where other extensions activate what they have put together themselves, it is for all pictures.
    """
    take_negative(p)
    presets = known_presets()
    if not isinstance(networks, TypedPrompts) or not networks.are(params_list):
        tags, errors = read_params(params_list)
        return Asked(Wanted((tags,), presets=presets), (errors,))
    is_hires = networks is getattr(p, "hr_extra_network_data", None) or bool(getattr(p, "is_hr_pass", False))
    prompts, errors_of_prompts = _read(p, networks.prompts, is_hires=is_hires)
    negative, errors_of_negative = _read(p, networks.negative or (), is_hires=is_hires, is_negative=True)
    missing: tuple[Errors, ...] = ((),) * (len(prompts) - len(negative))
    errors_of = zip(errors_of_prompts, errors_of_negative + missing, strict=False)
    seeds = tuple(int(seed) for seed in getattr(p, "seeds", None) or ())
    wanted = Wanted(prompts, negative[: len(prompts)], Stage(hires=is_hires), seeds, presets)
    found = Asked(wanted, tuple(a + b for a, b in errors_of))
    added, errors_of_added = read_params(each for each in params_list if not hasattr(each, "typed"))
    return found.with_tags(added, errors_of_added)


def _read(
    p: Processing, prompts: Sequence[str], *, is_hires: bool, is_negative: bool = False
) -> tuple[tuple[Tags, ...], tuple[Errors, ...]]:
    """`(the tags, what cannot be read)` of each."""
    read: dict[str, tuple[Tags, Errors]] = {}
    for prompt in dict.fromkeys(prompts):
        found = lettered(prompt)
        tags = Pass.of(p, is_hires=is_hires).shown(found, is_negative=is_negative) if found.tags else ()
        read[prompt] = tags, found.errors
    return tuple(read[prompt][0] for prompt in prompts), tuple(read[prompt][1] for prompt in prompts)
