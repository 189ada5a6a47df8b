"""An encoded prompt is used again exactly where encoding it anew would give the same.

The WebUI keeps the last encoded prompts, with a key that holds the tags as typed: another weight for the UNet alone
encodes again for nothing, and another file under the same name does not. Here the key holds, instead of the tags, what
the text encoders carry while they encode. With such a key older encodings can be kept too: taking an adapter away, or
a slider back, encodes nothing.
"""

from __future__ import annotations

import weakref
from collections import deque
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from modules import extra_networks, patches, processing, sd_hijack, shared

from lib_lora.webui.a1111.bundled import BundledWords
from lib_lora.webui.a1111.carried import carried_by_encoders
from lib_lora.webui.a1111.rows import EncodedRow, Encoder, Prompts, RowEncoder, rows_of
from lib_lora.webui.a1111.said import Said, overheard, say
from lib_lora.webui.names.protocols import EmbeddingTable, ExtraNetworkData, Network, Processing

PATCHED = (processing.StableDiffusionProcessing, "get_conds_with_caching")
OLDER = 4  # encodings kept beside the WebUI's own, for each of its caches; one is about a megabyte
OPTIONS = (  # that decide how a prompt is encoded, and are missing in the WebUI's key
    "comma_padding_backtrack", "use_old_emphasis_implementation", "sdxl_clip_l_skip",
    "sdxl_refiner_low_aesthetic_score", "sdxl_refiner_high_aesthetic_score",
    "textual_inversion_add_hashes_to_infotext",
)  # fmt: skip

Cache = list[Any]  # [key, encoded prompt, ...]; the key is None while it is empty


@dataclass
class Circumstances:
    """All that decides what encoding a prompt gives, beside what the WebUI's key has. Stands in it for the tags."""

    other_networks: Mapping[str, Any]  # typed for extra networks that are not ours
    encoders: Any  # what they carry: all the time, or for each row in each part of the steps
    words: tuple[Any, ...]  # every embedding that a prompt can name
    options: tuple[Any, ...]
    size: tuple[Any, ...]  # for SDXL a part of the prompt
    function: Encoder
    said: Said = field(default_factory=Said, compare=False)
    older: deque[Cache] | None = field(default=None, compare=False, repr=False)  # see `find`


class Conditioning:
    """Stands between the WebUI and its caches of encoded prompts."""

    def __init__(self, network: Network, words: BundledWords, failed: Callable[[Processing, str], None]) -> None:
        self._network = network  # whose tags need not stand in the key
        self._words = words
        self._failed = failed  # told that adapters are not active any more

    def install(self) -> None:
        """Through the WebUI's own register of patches."""
        original = getattr(*PATCHED)

        def get_conds_with_caching(
            p: Processing, function: Encoder, prompts: Prompts, steps: int, caches: list[Cache],
            typed: ExtraNetworkData | None, hires_steps: int | None = None,
        ) -> Any:
            rows = rows_of(p, prompts, self._words, is_hires=hires_steps is not None)
            now = self._circumstances(function, prompts, typed, rows)
            encode = RowEncoder(function, rows, self._words, lambda told: self._failed(p, told)) if rows else function
            return find(caches, now, lambda all_caches: original(
                p, encode, prompts, steps, all_caches, now, hires_steps))

        patches.patch(__name__, *PATCHED, get_conds_with_caching)

    def remove(self) -> None:
        """What was encoded until now is not found any more: the WebUI's own key is another."""
        patches.undo(__name__, *PATCHED)

    def _circumstances(
        self, function: Encoder, prompts: Prompts, typed: ExtraNetworkData | None, rows: Sequence[EncodedRow]
    ) -> Circumstances:
        return Circumstances(
            {kind: params for kind, params in (typed or {}).items() if not self._is_ours(kind)},
            rows or carried_by_encoders(shared.sd_model),
            tuple(_words(sd_hijack.model_hijack.embedding_db)),
            tuple(getattr(shared.opts, name, None) for name in OPTIONS),
            (getattr(prompts, "width", None), getattr(prompts, "height", None)),
            function,
        )

    def _is_ours(self, kind: str) -> bool:
        registered = extra_networks.extra_network_registry.get(kind)
        return (registered or extra_networks.extra_network_aliases.get(kind)) is self._network


def find(caches: list[Cache], now: Circumstances, encode: Callable[[list[Cache]], Any]) -> Any:
    """`encode` with older encodings to choose from beside `caches`, lists of a key and an encoded prompt.

    Older ones hang on what is ours in the first cache's key: whoever puts a new list there, or empties it, drops them.
    """
    cache = caches[0]
    previous = list(cache[:2])
    holder = _ours(previous[0])
    older: deque[Cache] = (holder and holder.older) or deque(maxlen=OLDER)
    with overheard() as said:
        encoded = encode([*caches, *older])
    if holder is not None:
        holder.older = None
    if cache[0] is not previous[0]:  # it was encoded now
        now.said = said
        if previous[0] is not None:
            older.appendleft(previous)
        say(said)
    else:
        place = next(place for place, (_, value, *_) in enumerate([*caches, *older]) if value is encoded)
        found = [*caches, *older][place]
        if place >= len(caches):  # what was used last stands where the WebUI looks first
            del older[place - len(caches)]
            older.appendleft(previous)
            cache[:2] = found[:2]
        if (used := _ours(found[0])) is not None:
            say(used.said)
    if (holder := _ours(cache[0])) is not None:
        holder.older = older
    return encoded


def _ours(key: tuple[Any, ...] | None) -> Circumstances | None:
    """What stands for the tags in a key of the WebUI's."""
    return next((each for each in key or () if isinstance(each, Circumstances)), None)


def _words(table: EmbeddingTable) -> Iterator[Hashable]:
    for embedding in table.word_embeddings.values():
        yield weakref.ref(embedding), embedding.shorthash
