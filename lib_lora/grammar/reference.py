"""The reference of the grammar, made of the tables that read it: `python -m lib_lora grammar`, docs/grammar.md."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from lib_lora.grammar.arguments import ARGUMENTS
from lib_lora.grammar.presets import BLOCK_NAMES, ELEMENTS, VECTORS

Row = tuple[str, ...]


@dataclass(frozen=True)
class Table:
    """Lines of cells; what stands in `backticks` is typed so."""

    head: Row
    rows: tuple[Row, ...]


@dataclass(frozen=True)
class Curves:
    """Examples of weights over time, each with its picture."""

    rows: tuple[Row, ...]  # (text, meaning)


@dataclass(frozen=True)
class Section:
    """One thing to know. `picture`: a file in docs/images, shown where it is there."""

    title: str
    parts: tuple[str | Table | Curves, ...]
    picture: str = ""


CURVES = (
    ("0@0,1@1", "from nothing to full"),
    ("0@0,1@0.5,0@1", "up until half of the steps, and down again"),
    ("1@0.2,0.3@0.8", "full until a fifth of the steps, then falling to 0.3"),
    ("0@5,1@6", "nothing for five steps, then full"),
    ("1@0,1@0.5,-1@0.5", "of two points at one place the later counts from there on: a jump"),
    ("0@s10,1@s2", "nothing while there is much noise, full when little is left"),
)
UNITS = (
    ("`0.5`", "share", "of the steps that this pass makes, from 0 to 1 in the last one; if none is above 1"),
    ("`12`", "step", "how many steps were made before; if any is above 1"),
    ("`s14.6`", "sigma", "how much noise there is; falls, and means the same for every sampler and number of steps"),
)
SPELLINGS = (
    ("`<lora:a:0.8>` `<lyco:a:0.8>` `<loractl:a:0.8>`", "one tag; capitals, blanks and full-width signs are read too"),
    ("`1@0;0@1` `1~0,0~1`", "loractl's other signs in a curve: `1@0,0@1`"),
    ("`w=MIDD`", "lora-block-weight's other name of `lbw=MIDD`"),
    ("`<lora:a:1:MIDD>` `<lora:a:1:1,0,...>`", "its way of before: `lbw=`; a third one is `x=`"),
    ("`<lora:a:te=1:unet=0.5:in=0:mid=1:out=1>`", "SD.Next's keys; `in`, `mid` and `out` are factors here"),
    ("`<fromto[0.5]:a,b>` `#increment` `#cmd`", "SwarmUI's and composable-lora's: not read, and named when seen"),
)
EDITING = (
    ("`[<lora:a:1>:<lora:b:1>:0.5]`", "one for the first half of the steps, the other from there on"),
    ("`[<lora:a:1>::10]`", "until step 10, that one included: the WebUI shows the first text so long"),
    ("`[<lora:a:1>cat|<lora:b:1>dog]`", "in turns with the words beside them"),
)


def _code(text: str) -> str:
    return f"`{text}`"


def _arguments() -> Table:
    names = ((each, " ".join(map(_code, (each.key, *each.aliases)))) for each in ARGUMENTS.values())
    rows = tuple((name, each.takes, each.meaning, _code(each.example)) for each, name in names)
    return Table(("key", "takes", "meaning", "example"), rows)


def _vectors() -> Table:
    models = {12: "SDXL", 20: "SDXL", 17: "SD1, SD2", 26: "SD1, SD2"}
    return Table(("numbers", "model", "for these blocks, in this order"),
                 tuple((str(count), models[count], " ".join(VECTORS[count])) for count in models))  # fmt: skip


def _presets() -> Table:
    named = ((_code(name), *(blocks or "none" for blocks in both)) for name, both in BLOCK_NAMES.items())
    return Table(("preset", "SD1, SD2: 1 for", "SDXL: 1 for"), (*named, ("`ALL0.5`", "0.5 instead of 1", "as well")))


def sections() -> tuple[Section, ...]:
    """All of it, in order."""
    return (
        Section("A tag", (
            "`<lora:NAME[:TE[:UNET[:DYN]]][:key=value]...>`",
            "NAME is a file name, an alias, a path such as `styles/ink`, or a hash. The numbers behind it have a name "
            "each; all else is `key=value`, in any order. A value that cannot be read switches off its tag and says "
            "what was meant; an unknown key is told, and the tag counts. Every tag is written so that it reads "
            "back the same.",
            _arguments(),
        )),
        Section("A weight over time", (
            "`weight@position,weight@position...`: linear between two positions, flat before the first and after the "
            "last. A position is one of these, for the whole curve or window alike:",
            Table(("typed", "unit", "meaning"), UNITS),
            Curves(CURVES),
            "A later point without a position stands at 1; a first one without makes the whole a constant. Text "
            "encoders run before the first step: they get what a curve begins with, and that is said. `start=`, "
            "`stop=` and `step=` reach them, but by sigma they know the beginning only.",
        ), "grammar-time.png"),
        Section("Blocks", (
            "`lbw=` has a factor for each block. BASE is every module of the text encoders. Blocks that are not among "
            "the numbers become 0, and are named where the adapter has them; what is in no block (`time_embed`, "
            "`label_emb`, `out`) keeps 1. `in=`, `mid=` and `out=` multiply, with numbers or curves.",
            _vectors(),
            "R is a number from 0 to 1 and U one from -0.5 to 1.5, both new in each picture and the same for the same "
            "seed; X is what `x=` says, X+0.5 more than that.",
            _presets(),
            "Presets of your own are lines `NAME:v,v,...`. One name can have two lines, one for SD1 and SD2 and one "
            "for SDXL. They stand in the WebUI's settings; commands read them with `--presets FILE`.",
            "`lbwe=` weighs layers within blocks: `blocks:elements:ratio`, several after commas, the last that holds "
            "counts. Blocks are names or ranges such as `IN05-OUT05`, elements parts of a layer's name such as `attn`, "
            "`attn1`, `proj`, `ff`; blanks stand between several, NOT before them means all others, nothing means all.",
            Table(("name", "stands for"), tuple((_code(name), _code(text)) for name, text in ELEMENTS.items())),
        ), "grammar-blocks.png"),
        Section("Passes, sides, places", (
            "`hr=`, `hrte=`, `hrunet=` and `refiner=` replace a weight in the hires pass and while the refiner runs. "
            "The hires pass counts its own steps, from the first; with the refiner the count goes on.",
            "`on=cond` acts on what is wanted alone, `on=uncond` on what is not. A tag in the negative prompt is "
            "`on=uncond` unless it says otherwise.",
            "`area=0,0,0.5,1` is the left half of the picture. The text encoders know no place: there it acts on the "
            "whole prompt.",
            "Where a picture has more than two rows, each has its side: in InstructPix2Pix the row with the prompt is "
            "`cond` and both without it are `uncond`; the perturbed row of PAG is `cond`, and in the layers that it "
            "perturbs an adapter acts on all rows or is refused. A ControlNet carries no adapters and sees the words "
            "that are due, encoded with what the text encoders carry then.",
        ), "grammar-places.png"),
        Section("In a prompt", (
            "A tag counts in exactly those steps in which the WebUI would show a word in its place:",
            Table(("typed", "meaning"), EDITING),
            "The same file several times adds up, each time with its own curve, window and blocks. Each picture of a "
            "batch has the tags of its own prompt. With `AND`, tags count for the whole prompt.",
        )),
        Section("As others write it", (Table(("typed", "read as"), SPELLINGS),)),
        Section("In a merge", (
            "A checkpoint has no steps, passes, sides and places. `python -m lib_lora merge` takes numbers, `dyn=`, "
            "`force=` and block weights, your own with `--presets FILE`, and refuses all else by name.",
        )),
    )  # fmt: skip


def markdown(pictures: Sequence[str] = ()) -> Iterator[str]:
    """The lines of docs/grammar.md; `pictures`: the files that are there in docs/images."""
    yield "# The grammar of strength"
    yield ""
    yield "<!-- Made by `python -m tests.make_grammar_page` from the tables of lib_lora/grammar. -->"
    for section in sections():
        yield from ("", f"## {section.title}")
        if section.picture in pictures:
            yield from ("", f"![{section.title}](images/{section.picture})")
        for part in section.parts:
            yield ""
            if isinstance(part, Curves):
                rows = tuple((f"![{text}](images/{name})", _code(text), meaning)
                             for (text, meaning), name in zip(part.rows, curve_pictures(), strict=True))  # fmt: skip
                yield from _markdown_table(Table(("", "typed", "meaning"), rows))
            else:
                yield from _markdown_table(part) if isinstance(part, Table) else [part]


def curve_pictures() -> tuple[str, ...]:
    """The name of the picture of each of CURVES."""
    return tuple(f"grammar-curve-{number}.svg" for number in range(1, len(CURVES) + 1))


def _markdown_table(table: Table) -> Iterator[str]:
    yield f"| {' | '.join(table.head)} |"
    yield f"|{' --- |' * len(table.head)}"
    for row in table.rows:
        yield f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in row)} |"
