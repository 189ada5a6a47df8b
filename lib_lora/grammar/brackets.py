"""A prompt with `[from:to:when]` and `[a|b]` in it, as the WebUI reads it: which text it is in which steps.

    [a:b:5]  [b:5]  [a::5]    a until 5 steps are made, then b; nothing where one is missing; 0.5: of half of the steps
    [a|b|c]                   another one in each step

They nest. A backslash takes the meaning from the sign behind it; (a:1.2) and [a] are emphasis and stay as they are, as
does what only looks like one of these. A `|` outside of brackets takes the meaning from all brackets of the prompt.
Where a loose bracket or colon touches such a one, `[a:b:5]]`, the WebUI reads it now so, now otherwise; here it counts.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Union

PLAIN = re.compile(r"(?:[^\\\[\]():|]|\\.)+")
WHEN = re.compile(r":\s*([+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?)\s*\]")
LOOSE = "[]():"  # may stand in a text without meaning
DEEPEST = 50  # brackets in brackets


@dataclass(frozen=True)
class Scheduled:
    """One text until `when`, another from then on."""

    before: Nodes
    after: Nodes
    when: str


@dataclass(frozen=True)
class Alternate:
    """Texts in turn."""

    options: tuple[Nodes, ...]


Node = Union[str, "Nodes", Scheduled, Alternate]


@dataclass(frozen=True)
class Nodes:
    """One after another."""

    parts: tuple[Node, ...] = ()
    depth: int = 0


def schedule(prompt: str, steps: int, before: int | None = None) -> list[tuple[int, str]]:
    """`(the last step, the text)`, in order; the WebUI shows a text in the steps 0 to that one, counted from 0.

    `before`: in a hires pass, how many steps were made before it. Whole numbers count on from there, shares from 1.
    """
    nodes = _Reader(prompt).nodes()
    if nodes is None:
        return [(steps, prompt)]
    lasts = {steps}
    for node in _changing(nodes):
        lasts |= {*range(1, steps + 1)} if isinstance(node, Alternate) else {_last(node.when, steps, before)} - {0}
    return [(last, "".join(_texts(nodes, last, steps, before))) for last in sorted(lasts)]


def _last(when: str, steps: int, before: int | None) -> int:
    """The last step that shows the first text; 0 if none does."""
    number = (float(when) - (before is not None)) * steps if "." in when else float(when) - (before or 0)
    return int(min(max(number, 0), steps))


def _changing(node: Node) -> Iterator[Scheduled | Alternate]:
    if isinstance(node, (Scheduled, Alternate)):
        yield node
    inner: Sequence[Node] = (
        node.parts if isinstance(node, Nodes) else node.options if isinstance(node, Alternate)
        else (node.before, node.after) if isinstance(node, Scheduled) else ())  # fmt: skip
    for each in inner:
        yield from _changing(each)


def _texts(node: Node, step: int, steps: int, before: int | None) -> Iterator[str]:
    if isinstance(node, str):
        yield node
    elif isinstance(node, Scheduled):
        is_before = step <= _last(node.when, steps, before)
        yield from _texts(node.before if is_before else node.after, step, steps, before)
    elif isinstance(node, Alternate):
        yield from _texts(node.options[(step - 1) % len(node.options)], step, steps, before)
    else:
        for part in node.parts:
            yield from _texts(part, step, steps, before)


class _Reader:
    """Reads brackets from the last to the first, so that those within one are known when it is read."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.known: dict[int, tuple[Nodes | Scheduled | Alternate, int, int]] = {}  # by place: what, its end, its depth

    def nodes(self) -> Nodes | None:
        """None if nothing in the text has a meaning."""
        for match in reversed([*re.finditer(r"\\.|[(\[]", self.text)]):
            if match[0] in "([":
                self._bracket(match.start())
        parts: list[Node] = []
        place = 0
        while place < len(self.text):
            nodes, end = self._sequence(place)
            parts.append(nodes)
            if end < len(self.text):
                if self.text[end] not in LOOSE:
                    return None
                parts.append(self.text[end])
            place = end + 1
        return Nodes(tuple(parts))

    def _sequence(self, place: int) -> tuple[Nodes, int]:
        """What has a meaning from `place` on, and where that ends."""
        parts: list[Node] = []
        depth = 0
        while True:
            if place in self.known:
                node, place, deep = self.known[place]
                parts.append(node)
                depth = max(depth, deep)
            elif match := PLAIN.match(self.text, place):
                parts.append(match[0])
                place = match.end()
            else:
                return Nodes(tuple(parts), depth), place

    def _bracket(self, start: int) -> None:
        read = self._round(start) if self.text[start] == "(" else self._square(start)
        if read is not None and read[2] < DEEPEST:
            self.known[start] = read

    def _round(self, start: int) -> tuple[Nodes, int, int] | None:
        inner, place = self._sequence(start + 1)
        depth = inner.depth
        if self._sign(place) == ":":
            weight, place = self._sequence(place + 1)
            depth = max(depth, weight.depth)
            inner = Nodes((inner, ":", weight))
        return (Nodes(("(", inner, ")")), place + 1, depth + 1) if self._sign(place) == ")" else None

    def _square(self, start: int) -> tuple[Nodes | Scheduled | Alternate, int, int] | None:
        sequences = [self._sequence(start + 1)]
        first, place = sequences[0]
        sign = self._sign(place)
        if sign == "]":
            return Nodes(("[", first, "]")), place + 1, first.depth + 1
        if sign == "|":
            while self._sign(sequences[-1][1]) == "|":
                sequences.append(self._sequence(sequences[-1][1] + 1))
            options = tuple(nodes for nodes, _ in sequences)
            end = sequences[-1][1]
            depth = max(nodes.depth for nodes in options)
            return (Alternate(options), end + 1, depth + 1) if self._sign(end) == "]" else None
        if match := WHEN.match(self.text, place):
            return Scheduled(Nodes(), first, match[1]), match.end(), first.depth + 1
        if sign == ":":
            then, place = self._sequence(place + 1)
            if match := WHEN.match(self.text, place):
                return Scheduled(first, then, match[1]), match.end(), max(first.depth, then.depth) + 1
        return None

    def _sign(self, place: int) -> str:
        return self.text[place : place + 1]
