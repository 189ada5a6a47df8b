"""A weight over the steps, drawn: as a row of signs for a terminal, as a small picture for a page."""

from __future__ import annotations

from lib_lora.grammar.curve import Weight, as_curve
from lib_lora.grammar.moment import Moment

STEPS = 21
SIGNS = "▁▂▃▄▅▆▇█"
WIDTH, HEIGHT, EDGE = 160, 60, 6  # of the picture
MOST_NOISE, LEAST_NOISE, BEND = 14.6, 0.03, 7  # sigma falls over the steps as Karras has it


def values(weight: Weight, steps: int = STEPS) -> list[float]:
    """The weight in each step."""
    return [as_curve(weight).at(Moment(step, steps, _sigma(step, steps))) for step in range(steps)]


def signs(weight: Weight) -> str:
    """`▁▃▅█▅▃▁`: the lowest and the highest sign are its lowest and highest weight, 0 and 1 among them."""
    found = values(weight)
    low, high = min(0.0, *found), max(1.0, *found)
    return "".join(SIGNS[round((value - low) / (high - low) * (len(SIGNS) - 1))] for value in found)


def picture(weight: Weight) -> str:
    """An SVG: the curve, and a line at 0 and at 1."""
    found = values(weight, 20 * (STEPS - 1) + 1 if as_curve(weight).unit == "share" else STEPS)
    low, high = min(0.0, *found), max(1.0, *found)

    def place(number: int, value: float) -> str:
        x = EDGE + number / (len(found) - 1) * (WIDTH - 2 * EDGE)
        return f"{x:.1f},{_y(value, low, high):.1f}"

    lines = "".join(f'<line x1="{EDGE}" x2="{WIDTH - EDGE}" y1="{_y(at, low, high):.1f}" y2="{_y(at, low, high):.1f}"/>'
                    for at in (0, 1))  # fmt: skip
    points = " ".join(place(number, value) for number, value in _corners(found))
    return (f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{HEIGHT}" viewBox="0 0 {WIDTH} {HEIGHT}">'
            f'<g fill="none" stroke="#888" stroke-width="0.5">{lines}</g>'
            f'<polyline fill="none" stroke="#c33" stroke-width="2" stroke-linejoin="round" points="{points}"/>'
            f"</svg>\n")  # fmt: skip


def _corners(found: list[float]) -> list[tuple[int, float]]:
    """Of many points in a line the first and the last."""
    last = len(found) - 1
    return [(number, value) for number, value in enumerate(found)
            if number in (0, last) or abs(found[number + 1] - 2 * value + found[number - 1]) > 1e-6]  # fmt: skip


def _y(value: float, low: float, high: float) -> float:
    return HEIGHT - EDGE - (value - low) / (high - low) * (HEIGHT - 2 * EDGE)


def _sigma(step: int, steps: int) -> float:
    share = step / max(steps - 1, 1)
    ends = MOST_NOISE ** (1 / BEND), LEAST_NOISE ** (1 / BEND)
    return float((ends[0] + share * (ends[1] - ends[0])) ** BEND)

