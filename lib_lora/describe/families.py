"""Which base model an adapter (or a checkpoint) belongs to: its tensors; where they leave it open, what is said of it.

The one rule, for whoever asks. Tensor names and shapes come first: nothing that is written anywhere makes layers fit a
model of other widths. Among the families that they leave, the user's notes count before what Civitai says, and that
before the header. `Sidecars.family` asks it of a file and what stands beside it, `detect` of a file alone.

Every rule is a line of a table (`family_rules.py`). Rules are read in order: each narrows down the families that are
left, and one that would leave none contradicts stronger evidence and does not count. What is left at the end is the
answer; if several are left, the commonest is, and the answer says that it is not sure.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cache, lru_cache

from lib_lora.algorithms import table
from lib_lora.describe.family_rules import (
    AMBIGUOUS,
    BLOCK,
    BLOCK_RULES,
    CHOICES,
    FLAVOUR_RULES,
    FLAVOURS,
    LABELS,
    MAX_GUESS,
    METADATA_CLUES,
    MLP,
    NOTES,
    NUMBER,
    OTHER,
    OTHER_ROLES,
    OVER_TIME,
    PREFIX,
    ROLES,
    SHAPE_RULES,
    SIBLINGS,
    STATED_RULES,
    TELLING,
    TELLING_TAGS,
    TELLING_TITLE,
    UNET,
    UNET_NAME,
    UNKNOWN,
    XL,
    Rule,
)
from lib_lora.describe.metadata import parsed, tag_counts
from lib_lora.describe.survey import Grouped, group

Shape = tuple[int, ...]
NO_WORD = re.compile(r"[^a-z0-9]+")
WIDTH = re.compile(r" width | out \d|-D\$")  # in the pattern of a rule that is not about names
MEASURE = re.compile(rf"{WIDTH.pattern}| up to ")


@dataclass(frozen=True)
class Family:
    """A base-model family: what is `possible` by the evidence, and the commonest of it as `id`."""

    id: str  # a key of LABELS, or "unknown"
    flavour: str | None = None  # a key of FLAVOURS
    evidence: tuple[str, ...] = ()  # sentences
    possible: tuple[str, ...] = ()  # ids; empty if nothing is known

    @property
    def label(self) -> str:
        """ "SD 1.5", "Pony (SDXL)"."""
        name = LABELS.get(self.id, "unknown base model")
        return f"{FLAVOURS[self.flavour][0]} ({name})" if self.flavour else name

    @property
    def is_xl(self) -> bool:
        """True for SDXL and its refiner, whose blocks are counted otherwise than those of SD 1 and SD 2."""
        return self.id in XL

    @property
    def sure(self) -> bool:
        """The evidence leaves nothing else."""
        return self.possible == (self.id,)

    def fits(self, checkpoint: Family | str) -> bool | None:
        """Whether an adapter of this family fits `checkpoint`, a family or its id; None if that is not certain."""
        others = set(checkpoint.possible if isinstance(checkpoint, Family) else {checkpoint} - {UNKNOWN})
        if not self.possible or not others:
            return None
        if not set(self.possible) & others:
            return False
        return True if self.sure and len(others) == 1 else None


@dataclass(frozen=True)
class Narrowed:
    """What the tensors leave possible. No family at all: they say nothing."""

    families: tuple[str, ...]
    evidence: tuple[str, ...]
    by_name: tuple[str, ...] = ()  # what the names alone leave, whatever the widths


def detect(
    shapes: Mapping[str, Shape],
    metadata: Mapping[str, str] | None = None,
    civitai_base: str | None = None,
    noted: str = "",
) -> Family:
    """The family of the adapter with these tensors, {name: shape}; the others as in `conclude`."""
    return conclude(narrow(shapes), metadata or {}, civitai_base, noted)


def detect_checkpoint(shapes: Mapping[str, Shape]) -> Family:
    """The family of a base model with these tensors, in CompVis / SGM or diffusers layout, also if it has only some."""
    return conclude(narrow(shapes), {})


def compatible(family: str, checkpoint: str) -> bool | None:
    """Whether two ids fit; None if one is not known. `Family.fits` also knows how sure they are: prefer it."""
    return None if UNKNOWN in (family, checkpoint) else family == checkpoint


def narrow(shapes: Mapping[str, Shape], *, grouped: Grouped | None = None) -> Narrowed:
    """Shape evidence alone: what is the same for two files with the same tensors. `grouped` if they are already."""
    names: tuple[dict[str, None], dict[str, None]] = {}, {}
    measures = "\n".join(_shape_clues(grouped or group(shapes), *names))
    others = "\n".join(names[1])
    every = "\n".join((*names[0], others))
    told = [
        rule
        for number, rule in enumerate(SHAPE_RULES)
        if _compiled(rule[0]).search(
            measures if MEASURE.search(rule[0]) else others if number < len(BLOCK_RULES) else every
        )
    ]
    found = _apply(told, Narrowed((), ()))
    by_name = _apply((rule for rule in told if not WIDTH.search(rule[0])), Narrowed((), ()))
    return replace(found, by_name=by_name.families)


def conclude(
    narrowed: Narrowed, metadata: Mapping[str, str], civitai_base: str | None = None, noted: str = ""
) -> Family:
    """The rule: of what the tensors leave, what the user's notes say, else Civitai, else the header.

    `civitai_base`: "Pony", from a sidecar; `noted`: "SD1", "SD2" or "SDXL", anything else says nothing.
    """
    return _concluded(narrowed, tuple(_stated_clues(metadata, civitai_base, noted)))


@lru_cache(maxsize=512)  # thousands of files have one of a few bases
def _concluded(narrowed: Narrowed, stated: tuple[str, ...]) -> Family:
    clues: dict[str, list[str]] = {}
    for clue in stated:
        clues.setdefault(clue.partition("=")[0], []).append(clue)

    def found(pattern: str) -> bool:
        return any(_compiled(pattern).match(clue) for kind in clue_kinds(pattern) for clue in clues.get(kind, ()))

    result = _with_statements((rule for rule in STATED_RULES if found(rule[0])), narrowed)
    if not result.families or len(result.families) >= len(LABELS) - 2:  # "not SD 2" alone says nothing
        return Family(UNKNOWN, evidence=("neither its tensors nor its metadata tell",))
    family = next(name for name in LABELS if name in result.families)
    evidence = result.evidence
    if family == OTHER or (OTHER in result.families and len(result.families) > MAX_GUESS):
        return Family(UNKNOWN, evidence=evidence, possible=result.families)
    if len(result.families) > 1:
        rest = ", ".join(LABELS[name] for name in LABELS if name in result.families and name != family)
        evidence += (f"it could also be for {rest}",)
    for pattern, flavour, why in FLAVOUR_RULES:
        if family in FLAVOURS[flavour][1] and found(pattern):
            return Family(family, flavour, (*evidence, why), result.families)
    return Family(family, None, evidence, result.families)


def _apply(rules: Iterable[Rule], start: Narrowed) -> Narrowed:
    left, evidence = start.families, start.evidence
    for _, families, why in rules:
        both = tuple(name for name in left or families if name in families)
        if both and both != left:
            left, evidence = both, (*evidence, why)
    return Narrowed(left, evidence)


def _with_statements(rules: Iterable[Rule], narrowed: Narrowed) -> Narrowed:
    """What is stated, as far as the tensors allow it: the first that names a family decides among the others."""
    left, evidence = narrowed.families, narrowed.evidence
    is_named = False
    for pattern, families, why in rules:
        kind = pattern.partition("=")[0]
        both = tuple(name for name in left or families if name in families)
        is_name = kind == NOTES or (len(families) == 1 and kind != "name")
        if not both and is_name and not is_named:
            both = tuple(name for name in families if _has_its_blocks(name, narrowed))
        if not both:
            by_tensors = narrowed.families and not set(narrowed.families) & set(families)
            against = "its tensors do not fit that" if by_tensors else "what counts more says otherwise"
            evidence = (*evidence, f"{why}, but {against}")
        elif both != left:
            left, evidence = both, (*evidence, why)
        is_named = is_named or (is_name and bool(both))
    return Narrowed(left, evidence)


def _has_its_blocks(family: str, narrowed: Narrowed) -> bool:
    """Whether only widths speak against `family`. Those of Stable Diffusion's UNets tell them apart for certain."""
    if family in UNET:
        return False
    beside = {sibling for name in narrowed.families for sibling in SIBLINGS.get(name, ())}
    return OTHER in narrowed.by_name or family in narrowed.by_name or family in beside


@cache  # as many as the tables have lines; compiled when first needed, not at import
def _compiled(pattern: str) -> re.Pattern[str]:
    return re.compile(pattern, re.MULTILINE)


@cache
def clue_kinds(pattern: str) -> tuple[str, ...]:
    """ "(?:base|arch)=sd" -> ("base", "arch"): a metadata rule begins with the kinds of clues that it looks at."""
    return tuple(pattern.partition("=")[0].removeprefix("(?:").removesuffix(")").split("|"))


def _shape_clues(grouped: Grouped, unets: dict[str, None], others: dict[str, None]) -> Iterator[str]:
    """Clues from measures. Those from names are put into `unets`, with CLIP's, and `others`."""
    widths: set[tuple[str, int]] = set()
    dimensions: set[tuple[str, int]] = set()  # of factors that keep the shape of their weight
    last: dict[str, int] = {}  # {kind of block: its largest number}
    for name, parts in (*grouped.modules.items(), *((key, {}) for key in grouped.unknown)):
        flat = name.replace(".", "_")
        roles: tuple[tuple[str, re.Pattern[str]], ...]
        if UNET_NAME.search(flat) or "encoder_layers_" in flat:
            telling = TELLING.match(flat)
            unets[telling[0] if telling else flat] = None
            roles = () if OVER_TIME.search(flat) else ROLES
        else:
            others.update(dict.fromkeys(_other_clues(name, last)))
            flat = _core(name).replace(".", "_")
            roles = OTHER_ROLES
            if MLP.search(flat) and "up" in parts:
                yield f"mlp out {parts['up'][0] if parts['up'] else 0}"
        role = next((role for role, pattern in roles if pattern.search(flat)), "")
        if role and (width := _input_width(parts)):
            widths.add((role, width))
        kept = parts.get("down") or parts.get("diff") or (parts.get("weight") if parts.keys() == {"weight"} else None)
        if role and kept:
            dimensions.add((role, len(kept)))
    yield from (f"{kind} up to {number}" for kind, number in last.items())
    yield from (f"{role} width {width}" for role, width in widths)
    if ("self", 4) not in dimensions:  # else the writer made all factors 4-D
        yield from (f"proj_in {count}-D" for role, count in dimensions if role == "proj_in")


def _other_clues(name: str, last: dict[str, int]) -> Iterator[str]:
    """Of a module that is in no UNet and no CLIP; `last` takes the numbers of its blocks."""
    core = _core(name)
    dotted = NUMBER.sub("N", core)
    yield dotted.replace(".", "_")
    if dotted.count(".") > 1:
        yield dotted
    if block := BLOCK.search(core.replace(".", "_")):
        last[block[1]] = max(last.get(block[1], 0), int(block[2][:6]))


def _core(name: str) -> str:
    """The module's path in its model, without the component before it."""
    if name.startswith(AMBIGUOUS):
        return f"any_{name.removeprefix('lora_transformer_')}"
    prefix = PREFIX.match(name)
    return name[prefix.end() :] if prefix else name


def _input_width(parts: Mapping[str, Shape]) -> int | None:
    """Input features of a module's weight, from the shapes of its parts; None where they do not tell."""
    if width := table.TABLE.inputs(parts):
        return width
    if "on_input" not in parts and len(parts.get("weight", ())) >= 2:
        return parts["weight"][1]
    return None


def _stated_clues(metadata: Mapping[str, str], civitai_base: str | None, noted: str) -> Iterator[str]:
    if noted in CHOICES:
        yield f"{NOTES}={noted}"
    for clue, key, lower in METADATA_CLUES:
        if value := metadata.get(key):
            value = " ".join(value.split())
            value = value.lower() if lower else value
            if clue != "title" or TELLING_TITLE.search(value):  # every file has another one
                yield f"{clue}={value}"
            if clue in ("base", "arch"):
                yield f"says={NO_WORD.sub('', value.lower())}"
    for counts in tag_counts(metadata).values():
        yield from (f"tag={tag}" for tag in TELLING_TAGS if tag in counts or f" {tag}" in counts)
    if civitai_base:
        yield f"civitai={' '.join(civitai_base.split())}"
    config = parsed(metadata, "ot_config")
    if isinstance(config, dict):
        yield f"arch={config.get('model_type', '')}"
        yield f"says={NO_WORD.sub('', str(config.get('model_type', '')).lower())}"
        yield f"name={str(config.get('base_model_name', '')).lower()}"
