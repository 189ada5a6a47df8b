"""Prompts that are not all encoded alike: each row of a batch, in each part of the steps, with what acts on it then.

The WebUI encodes all prompts in one call and gets a schedule for each, because of prompt editing. Here its function is
called once for each state of the text encoders, with the rows that need it, and the schedules are put together from
the parts.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from modules import prompt_parser, shared

from lib_lora.engine.schedule import Encoding
from lib_lora.errors import PatchError
from lib_lora.grammar.who import Row, Side
from lib_lora.webui.a1111.bundled import BundledWords
from lib_lora.webui.a1111.carried import carried_in
from lib_lora.webui.a1111.host import existing_session
from lib_lora.webui.a1111.passes import Pass
from lib_lora.webui.names.protocols import Processing

Prompts = Sequence[str]  # for SDXL they have `width` and `height`
Encoder = Callable[..., Any]  # the WebUI's function for prompts, or for negative ones


@dataclass
class Part:
    """Some of the calls of a pass, in which the text encoders carry the same. Equal parts encode alike."""

    first: int
    last: int  # included
    carried: Any  # and the words that they know
    encoding: Encoding = field(compare=False)


EncodedRow = tuple[Part, ...]  # one prompt of the batch, or one negative prompt


def rows_of(p: Processing, prompts: Prompts, words: BundledWords, *, is_hires: bool) -> list[EncodedRow]:
    """For each prompt its parts in time; nothing if all are encoded alike at any time."""
    session = existing_session(shared.sd_model)
    if session is None:
        return []
    side: Side = "uncond" if getattr(prompts, "is_negative_prompt", False) else "cond"
    words_of = {number: words.of(Row(number, side)) for number in range(len(prompts))}
    if not session.tells_encodings_apart and len(set(words_of.values())) <= 1:
        return []
    length = Pass.of(p, is_hires=is_hires)
    rows = []
    for number in range(len(prompts)):
        first, parts = 0, []
        for stop, encoding in session.segments(Row(number, side), length.steps, length.calls):
            parts.append(Part(first, stop - 1, (carried_in(session, encoding), words_of[number]), encoding))
            first = stop
        rows.append(tuple(parts))
    return rows


class RowEncoder:
    """Stands where the WebUI calls its function. `failed` is told why adapters are not active any more."""

    def __init__(
        self, encode: Encoder, rows: Sequence[EncodedRow], words: BundledWords, failed: Callable[[str], None]
    ) -> None:
        self._encode = encode
        self._rows = rows
        self._words = words
        self._failed = failed

    def __call__(self, sd_model: Any, prompts: Prompts, *others: Any, **named: Any) -> Any:
        def encode(some: Prompts) -> Any:
            return self._encode(sd_model, some, *others, **named)

        try:
            return self._put_together(prompts, encode)
        except PatchError as error:  # the base weights are back
            self._failed(f"the prompts could not be encoded each with its own adapters: {error}")
            return encode(prompts)

    def _put_together(self, prompts: Prompts, encode: Callable[[Prompts], Any]) -> Any:
        session = existing_session(shared.sd_model)
        assert session is not None
        pieces: dict[int, Sequence[Any]] = {}  # what the WebUI's function said of a prompt, by the id of the part
        for state in self._states():
            numbers = list(dict.fromkeys(number for number, _ in state))
            texts = prompt_parser.SdConditioning([prompts[number] for number in numbers], copy_from=prompts)
            encoding = state[0][1].encoding
            with session.encode(encoding), self._words.only_of(encoding.row, shared.sd_model):
                encoded = encode(texts)
            if len(state) == len(self._rows) == len(prompts) and all(len(row) == 1 for row in self._rows):
                return encoded
            of_prompt = dict(zip(numbers, getattr(encoded, "batch", encoded), strict=True))
            pieces |= {id(part): of_prompt[number] for number, part in state}
        is_composed = hasattr(encoded, "batch")  # by AND
        rows = [[(part, pieces[id(part)]) for part in row] for row in self._rows]
        if not is_composed:
            return [joined(row) for row in rows]
        return prompt_parser.MulticondLearnedConditioning((len(rows),), [_composed(row) for row in rows])

    def _states(self) -> list[list[tuple[int, Part]]]:
        """Of each state of the text encoders: the rows that need it, and when."""
        states: list[tuple[Any, list[tuple[int, Part]]]] = []
        for number, row in enumerate(self._rows):
            for part in row:
                same = next((found for carried, found in states if carried == part.carried), None)
                if same is None:
                    states.append((part.carried, same := []))
                same.append((number, part))
        return [found for _, found in states]


def joined(pieces: Sequence[tuple[Part, Sequence[Any]]]) -> list[Any]:
    """One schedule of `(for which calls, the schedule that is right then)`."""
    found = []
    for part, schedule in pieces:
        start = 0
        for number, each in enumerate(schedule, 1):
            end = each.end_at_step
            is_last = number == len(schedule)
            if start <= part.last and (is_last or end >= part.first):
                found.append(each._replace(end_at_step=part.last if is_last else min(end, part.last)))
            start = end + 1
    found[-1] = found[-1]._replace(end_at_step=max(found[-1].end_at_step, pieces[-1][1][-1].end_at_step))
    return found


def _composed(pieces: Sequence[tuple[Part, Sequence[Any]]]) -> list[Any]:
    """The same for each part of a prompt with AND."""
    weights = [each.weight for each in pieces[0][1]]
    return [
        prompt_parser.ComposableScheduledPromptConditioning(
            joined([(part, composed[place].schedules) for part, composed in pieces]), weight)
        for place, weight in enumerate(weights)
    ]
