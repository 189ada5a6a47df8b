"""Embeddings inside adapter files: words of the prompt while their adapter is active, kept in the WebUI's own table.

The WebUI empties that table when it reads the embeddings folder again, so each activation looks whether they are there.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

from modules import sd_hijack
from modules.textual_inversion import textual_inversion
from torch import Tensor

from lib_lora.grammar.who import Row, Who
from lib_lora.webui.names import settings
from lib_lora.webui.names.protocols import Embedding, EmbeddingTable, SdModel

SDXL = ("clip_l", "clip_g")


@dataclass(frozen=True)
class Word:
    """One embedding and the adapter that brings it."""

    adapter: str  # as typed in the tag
    path: str
    parts: Mapping[str, Tensor]  # "clip_l", "clip_g" or "text": (vectors, width)


class BundledWords:
    """The words that we have put into the table."""

    def __init__(self) -> None:
        self._brought: list[tuple[Who, Mapping[str, Word]]] = []
        self._shown: dict[str, tuple[Mapping[str, Tensor], Embedding]] = {}  # word -> (its parts, the WebUI's object)

    def bring(self, sd_model: SdModel, brought: Iterable[tuple[Who, Mapping[str, Word]]]) -> list[str]:
        """Make prompts know these words and no others of ours; in prompt order, the first of one name counts.

        Returns sentences about those that they cannot know.
        """
        self._brought = list(brought)
        return self._show(sd_model, self._of(None))

    def of(self, row: Row) -> tuple[tuple[str, str], ...]:
        """The words of one prompt and the files that bring them."""
        return tuple((word, source.path) for word, source in self._of(row).items())

    @contextmanager
    def only_of(self, row: Row, sd_model: SdModel) -> Iterator[None]:
        """Prompts know the words of that row meanwhile."""
        everywhere = self._of(None)
        if self._of(row) == everywhere:
            yield
            return
        self._show(sd_model, self._of(row))
        try:
            yield
        finally:
            self._show(sd_model, everywhere)

    def _of(self, row: Row | None) -> dict[str, Word]:
        words: dict[str, Word] = {}
        for who, own in self._brought:
            if row is None or who.includes(row):
                words = {**own, **words}
        return words

    def _show(self, sd_model: SdModel, words: Mapping[str, Word]) -> list[str]:
        table: EmbeddingTable = sd_hijack.model_hijack.embedding_db
        for word in [word for word in self._shown if word not in words]:
            self._remove(table, sd_model, word)
        problems = [self._add(table, sd_model, word, source) for word, source in words.items()]
        return [problem for problem in problems if problem]

    def _add(self, table: EmbeddingTable, sd_model: SdModel, word: str, source: Word) -> str | None:
        parts, embedding = self._shown.get(word, (None, None))
        current = table.word_embeddings.get(word)
        if current is not None and current is not embedding:
            return f"{source.adapter}: it brings the embedding '{word}', but yours of that name counts"
        if parts is not source.parts:
            embedding = _embedding(word, source, is_sdxl=bool(sd_model.is_sdxl))
        if embedding is None or table.expected_shape not in (-1, embedding.shape):
            self._remove(table, sd_model, word)
            return f"{source.adapter}: its embedding '{word}' is for another base model; the word means nothing special"
        embedding.shorthash = source.adapter if settings.get("lora_bundled_ti_to_infotext") else ""
        if current is not embedding:
            table.register_embedding(embedding, sd_model)
        self._shown[word] = (source.parts, embedding)
        return None

    def _remove(self, table: EmbeddingTable, sd_model: SdModel, word: str) -> None:
        _, embedding = self._shown.pop(word, (None, None))
        if embedding is not None and table.word_embeddings.get(word) is embedding:
            table.register_embedding_by_name(None, sd_model, word)


def _embedding(word: str, source: Word, *, is_sdxl: bool) -> Embedding | None:
    """What the WebUI makes of it; None if these are not this model's text encoders."""
    parts = source.parts
    if is_sdxl:
        data = {name: parts[name] for name in SDXL if name in parts}
        if len(data) < len(SDXL):
            return None
    else:
        vectors = parts.get("text", parts.get("clip_l"))
        if vectors is None or "clip_g" in parts:
            return None
        data = {"*": vectors}
    embedding: Embedding = textual_inversion.create_embedding_from_data(data, word, filename=source.path)
    embedding.filename = f"{source.path}/{word}"
    return embedding
