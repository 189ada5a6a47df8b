"""The metadata of a card: those of the file's header, read when somebody looks at them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from lib_lora.library.entry import Entry


class Metadata(Mapping[str, Any]):
    """Thousands of cards are made, and of few anybody asks for these."""

    def __init__(self, entry: Entry, *, is_empty: bool) -> None:
        self._entry = entry
        self._is_empty = is_empty

    def _read(self) -> dict[str, Any]:
        return json.loads(self._entry.readable_json)

    def __bool__(self) -> bool:
        return not self._is_empty

    def __getitem__(self, key: str) -> Any:
        return self._read()[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._read())

    def __len__(self) -> int:
        return len(self._read())
