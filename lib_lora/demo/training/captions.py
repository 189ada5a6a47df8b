"""Captions: plain sentences about a scene, and every word that the tokenizer keeps whole."""

from __future__ import annotations

import random
import string
from dataclasses import dataclass

from lib_lora.demo.training.pictures import COLOURS, POSITIONS, SHAPES, SIZES, Scene, place

# What a word of the scene may be called in a caption; the first spelling is the usual one.
SPELLINGS: dict[str, tuple[str, ...]] = {
    "circle": ("circle", "disc", "moon"),
    "small": ("small", "little", "tiny"),
    "big": ("big", "large", "huge"),
    "center": ("in the center", "in the middle"),
    "left": ("on the left", "at the left"),
    "right": ("on the right", "at the right"),
    "top": ("at the top", "on top"),
    "bottom": ("at the bottom", "on the bottom"),
}
SYNONYM_SHARE = 0.2

# Words the model ignores, kept whole so that a prompt from elsewhere stays short, and to be taught by adapters.
SPARE_WORDS = """
a an and at background best beautiful bright brown by cold cool crescent cyan dark day drawing evening figure flat
for glow gold gray grey hollow in is light masterpiece morning neon night no not of on outline painting photo picture
pink quality ring shadow shape shiny silver sky spotlight striped stripes sun sunset the thick thin to turquoise two
warm with
""".split()

STRAY_SHARE = 0.06  # captions with one or two words that mean nothing: the model learns to overlook them


@dataclass(frozen=True)
class Pattern:
    """One way to say it. What the words leave out is fixed: see `captioned_scene`."""

    share: float
    text: str
    names_background: bool = True


PATTERNS = (
    Pattern(0.72, "{figure}{where} on a {background} background"),
    Pattern(0.09, "{figure}{where}, {background} background"),
    Pattern(0.09, "{figure}{where} on {background}"),
    Pattern(0.10, "{figure}{where}", names_background=False),
)
EMPTY_SHARE = 0.1  # the unconditional half of guidance
POSITION_SHARE = 0.45
NO_SIZE_SHARE = 0.12


def words() -> list[str]:
    """Every word that is one token, sorted."""
    known = {*SHAPES, *COLOURS, *SIZES, *POSITIONS, *SPARE_WORDS, ","}
    known.update(word for spellings in SPELLINGS.values() for spelling in spellings for word in spelling.split())
    return sorted(known)


def default_background(colour: str) -> str:
    """The background of a caption that names none."""
    return "black" if colour == "white" else "white"


def make_scene(rng: random.Random, shape: str, colour: str, size: str, position: str, background: str) -> Scene:
    """The scene with a little jitter of place, radius, rotation and colour."""
    x, y = place(size, position)

    def shade(name: str) -> tuple[float, float, float]:
        red, green, blue = (min(1.0, max(0.0, c + rng.uniform(-0.02, 0.02))) for c in COLOURS[name])
        return red, green, blue

    return Scene(
        shape=shape,
        colour=colour,
        size=size,
        position=position,
        background=background,
        x=x + rng.uniform(-1.5, 1.5),
        y=y + rng.uniform(-1.5, 1.5),
        radius=SIZES[size] * rng.uniform(0.95, 1.05),
        angle=rng.uniform(-0.03, 0.03),
        colour_rgb=shade(colour),
        background_rgb=shade(background),
    )


def spell(rng: random.Random, word: str) -> str:
    spellings = SPELLINGS.get(word, (word,))
    return rng.choice(spellings[1:]) if len(spellings) > 1 and rng.random() < SYNONYM_SHARE else spellings[0]


def caption_of(rng: random.Random, scene: Scene, pattern: Pattern, *, say_size: bool, say_position: bool) -> str:
    """The scene in words, e.g. `a small red star on the left on a blue background`."""
    figure = f"{spell(rng, scene.size)} " if say_size else ""
    figure += f"{scene.colour} {spell(rng, scene.shape)}"
    if rng.random() < 0.9:
        figure = ("an " if figure[0] in "aeiou" else "a ") + figure
    where = f" {spell(rng, scene.position)}" if say_position else ""
    caption = pattern.text.format(figure=figure, where=where, background=scene.background)
    return add_stray_words(rng, caption) if rng.random() < STRAY_SHARE else caption


def add_stray_words(rng: random.Random, caption: str) -> str:
    parts = caption.split(" ")
    for _ in range(rng.randint(1, 2)):
        letters = "".join(rng.choice(string.ascii_lowercase) for _ in range(rng.randint(2, 7)))
        parts.insert(rng.randint(0, len(parts)), rng.choice([letters, *rng.choices(SPARE_WORDS, k=3)]))
    return " ".join(parts)


def captioned_scene(rng: random.Random, *, shape: str | None = None) -> tuple[Scene, str]:
    """A random scene and its caption. Unsaid size is medium, unsaid position the center, unsaid background white."""
    pattern = rng.choices(PATTERNS, weights=[p.share for p in PATTERNS])[0]
    say_size = rng.random() >= NO_SIZE_SHARE
    say_position = rng.random() < POSITION_SHARE
    colour = rng.choice(list(COLOURS))
    background = rng.choice([c for c in COLOURS if c != colour])
    scene = make_scene(
        rng,
        shape=shape or rng.choice(list(SHAPES)),
        colour=colour,
        size=rng.choice(list(SIZES)) if say_size else "medium",
        position=rng.choice(list(POSITIONS)) if say_position else "center",
        background=background if pattern.names_background else default_background(colour),
    )
    if rng.random() < EMPTY_SHARE:
        return scene, ""
    return scene, caption_of(rng, scene, pattern, say_size=say_size, say_position=say_position)


def batch(seed: str, size: int, *, shape: str | None = None) -> tuple[list[Scene], list[str]]:
    """`size` scenes and captions; the same seed gives the same batch, so a resumed training sees the same data."""
    rng = random.Random(seed)
    pairs = [captioned_scene(rng, shape=shape) for _ in range(size)]
    return [scene for scene, _ in pairs], [caption for _, caption in pairs]
