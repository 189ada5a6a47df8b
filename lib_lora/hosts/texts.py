"""Texts: a diffusers pipeline's prompts, encoded one by one, each with what its adapters make of the text encoders.

Needed where the text encoders carry something else for one picture than for another, for one side of the guidance, or
for some of the steps; and where prompt editing changes the prompt itself. Else the pipeline encodes, as it always does.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from lib_lora.engine.schedule import Encoding
from lib_lora.grammar.moment import Moment
from lib_lora.grammar.who import Row, Side
from lib_lora.hosts.prompts import NAMES, Prompts, Text
from lib_lora.session.session import Session

Encoded = tuple[Tensor, Tensor | None]  # (1, tokens, width); pooled (1, width), where the pipeline has that
GIVEN: Mapping[Side, tuple[str, str]] = {  # what the pipeline calls them
    "cond": ("prompt_embeds", "pooled_prompt_embeds"),
    "uncond": ("negative_prompt_embeds", "negative_pooled_prompt_embeds"),
}


class Texts:
    """Those of one call: `first` for the pipeline, and called before each call of the UNet for what is due then."""

    def __init__(self, pipe: Any, session: Session, prompts: Prompts, options: Mapping[str, Any]) -> None:
        self.pipe, self.session, self.prompts, self.options = pipe, session, prompts, options
        scale = (options.get("cross_attention_kwargs") or {}).get("scale")
        self._known = inspect.signature(pipe.encode_prompt).parameters
        self._always = {"device": pipe._execution_device, "num_images_per_prompt": 1, "lora_scale": scale,
                        "clip_skip": options.get("clip_skip")}  # fmt: skip
        self._encoded: dict[tuple[Text, Encoding], Encoded] = {}
        self._segments: dict[tuple[Row, int], list[tuple[int, Encoding]]] = {}
        self._like: Encoded = torch.empty(1, 1, 1), None  # the last prompt
        self._shown: tuple[object, Encoded] | None = None  # of the last call: what was due, and that of all rows

    @staticmethod
    def are_needed(session: Session, prompts: Prompts) -> bool:
        """True if the pipeline cannot encode them all alike."""
        return session.tells_encodings_apart or prompts.are_edited

    def first(self) -> dict[str, Tensor]:
        """The pipeline's arguments, as at the beginning."""
        found: dict[str, Tensor] = {}
        for side, (states, pooled) in GIVEN.items():
            if states in self.options:  # somebody has encoded it already
                continue
            rows = [Row(number * self.prompts.pictures, side) for number in range(self.prompts.count)]
            encoded = [self._encode(*key) for key in self._due(rows, Moment(0, 1))]
            found[states] = torch.cat([each for each, _ in encoded])
            if encoded[0][1] is not None:
                found[pooled] = torch.cat([each for _, each in encoded if each is not None])
        return found

    def __call__(self, rows: Sequence[Row], moment: Moment) -> Encoded | None:
        """See sampling.Texts."""
        if any(GIVEN[row.side][0] in self.options for row in rows):
            return None
        due = self._due(rows, moment)
        if self._shown is None and due == self._due(rows, Moment(0, moment.steps)):
            return None
        if self._shown is None or self._shown[0] != due:
            encoded = [self._encode(*key) for key in due]
            pooled = [each for _, each in encoded if each is not None]
            self._shown = due, (torch.cat([each for each, _ in encoded]), torch.cat(pooled) if pooled else None)
        return self._shown[1]

    def _due(self, rows: Sequence[Row], moment: Moment) -> list[tuple[Text, Encoding]]:
        """What each row is told, and what the text encoders run with: equal where the encoding is the same."""
        return [(self.prompts.at(row.image, row.side, moment.step), self._encoding(row, moment)) for row in rows]

    def _encoding(self, row: Row, moment: Moment) -> Encoding:
        first = Row(row.image - row.image % self.prompts.pictures, row.side)  # of the pictures that have one prompt
        asked = first, moment.steps
        if asked not in self._segments:
            self._segments[asked] = self.session.segments(*asked)
        segments = self._segments[asked]
        return next((encoding for stop, encoding in segments if moment.step < stop), segments[-1][1])

    @torch.no_grad()
    def _encode(self, text: Text, encoding: Encoding) -> Encoded:
        if (text, encoding) not in self._encoded:
            with self.session.encode(encoding):
                self._encoded[text, encoding] = self._encode_alone(text, encoding.row.side)
        return self._encoded[text, encoding]

    def _encode_alone(self, text: Text, side: Side) -> Encoded:
        """One text, as the pipeline does it for this side of the guidance."""
        asked = {**self._always, "prompt": None, "do_classifier_free_guidance": side == "uncond"}
        asked |= dict(zip(NAMES[side], text, strict=True))
        if side == "uncond":  # which it encodes beside a prompt; of one that is encoded it wants the size alone
            asked |= dict(zip(GIVEN["cond"], self._like, strict=True))
        found = self.pipe.encode_prompt(**{name: asked[name] for name in asked.keys() & self._known.keys()})
        place = 1 if side == "uncond" else 0
        encoded = found[place], found[place + 2] if len(found) > 2 else None
        if side == "cond":
            self._like = encoded
        return encoded
