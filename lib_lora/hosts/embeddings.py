"""Embeddings that adapters bring, as words of a diffusers pipeline's prompts while the adapters are active.

The tokenizer is exchanged for a copy that knows the words, the token embedding's weight for a longer one; taking the
words away puts the very objects back.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from lib_lora.engine.books import WORDS, books_of
from lib_lora.model.slots import unwrapped

PLACES = (("tokenizer", "text_encoder"), ("tokenizer_2", "text_encoder_2"))
OLD_EOS = 2  # configurations with this number take the highest token for the end of the text, which a new word would be


@dataclass(frozen=True, eq=False)
class Changed:
    """What one tokenizer and text encoder were. Kept in the books of the encoder: two pipelines may share it."""

    pipe: Any  # None: a copy, whose pipeline nobody knows
    tokenizer_name: str
    tokenizer: Any
    own_tokenizer: Any
    encoder: nn.Module
    embedding: nn.Module
    weight: Tensor
    own_weight: Tensor
    old_eos: tuple[nn.Module, ...]

    def undo(self) -> None:
        """The tokenizer and the matrix that were there; once more does no harm."""
        current: Any = self.embedding.weight
        if current.shape == self.own_weight.shape:  # else somebody has put another there
            current.data = self.weight.to(current)
        if self.pipe is not None and getattr(self.pipe, self.tokenizer_name, None) is self.own_tokenizer:
            setattr(self.pipe, self.tokenizer_name, self.tokenizer)
        for module in self.old_eos:
            module.eos_token_id = OLD_EOS  # type: ignore[assignment]

    def copied(self, memo: dict[int, Any]) -> Changed:
        """For a deep copy of the encoder."""
        of_model = ("encoder", "embedding", "weight", "own_weight", "old_eos")
        return replace(self, pipe=None, **{name: copy.deepcopy(getattr(self, name), memo) for name in of_model})


class PromptWords:
    """The words that one pipeline knows beyond its own."""

    def __init__(self, pipe: Any) -> None:
        self.pipe = pipe
        self._shown: Mapping[str, Mapping[str, Tensor]] = {}
        self._changed: list[Changed] = []

    @property
    def shown(self) -> Mapping[str, Mapping[str, Tensor]]:
        """The words, by the vectors that their adapters brought."""
        is_mine = all(books_of(changed.encoder).words is changed for changed in self._changed)
        return self._shown if is_mine else {}  # else another pipeline with the same text encoder has its own

    def show(self, embeddings: Mapping[str, Mapping[str, Tensor]]) -> list[str]:
        """Make the pipeline know these words: {word: {"clip_l", "clip_g" or "text": (vectors, width)}}, and no others.

        Returns sentences about those that it cannot know. Raises RuntimeError, with the pipeline as it was.
        """
        self.remove()
        places = self._places()
        widths = {name: getattr(self.pipe, name).get_input_embeddings().weight.shape[1] for _, name in places}
        usable, problems = {}, []
        for word, parts in embeddings.items():
            vectors = _by_encoder(parts, widths)
            if vectors is None:
                problems.append(f"the embedding '{word}' is for other text encoders; the word means nothing special")
            elif any(_knows(getattr(self.pipe, tokenizer), word) for tokenizer, _ in places):
                problems.append(f"the embedding '{word}' has the name of an ordinary word; the word keeps its meaning")
            else:
                usable[word] = vectors
        try:
            for tokenizer, encoder in places if usable else ():
                self._add(tokenizer, encoder, {word: parts[encoder] for word, parts in usable.items()})
        except BaseException:
            self.remove()
            raise
        self._shown = dict(embeddings)
        return problems

    def remove(self) -> None:
        """The pipeline's own words, embedding matrices and tokenizers; also where another pipeline changed them."""
        self._shown = {}
        while self._changed:
            changed = self._changed[-1]
            books = books_of(changed.encoder)
            if books.words is changed:
                books.forget_words()
            self._changed.pop()
        for _, name in self._places():
            books_of(unwrapped(getattr(self.pipe, name))).forget_words()

    def _places(self) -> list[tuple[str, str]]:
        return [place for place in PLACES if all(getattr(self.pipe, name, None) is not None for name in place)]

    def _add(self, tokenizer_name: str, encoder_name: str, words: Mapping[str, Tensor]) -> None:
        tokenizer, encoder = getattr(self.pipe, tokenizer_name), getattr(self.pipe, encoder_name)
        own = copy.deepcopy(tokenizer)
        rows = {token: row for word, vectors in words.items() for token, row in _tokens(word, vectors)}
        own.add_tokens(list(rows))
        places = own.convert_tokens_to_ids(list(rows))
        embedding = encoder.get_input_embeddings()
        weight = embedding.weight.data
        longer = torch.cat([weight, weight.new_zeros(max(0, max(places) + 1 - weight.shape[0]), weight.shape[1])])
        longer[places] = torch.stack(list(rows.values())).to(longer)
        old_eos = tuple(module for module in encoder.modules() if getattr(module, "eos_token_id", None) == OLD_EOS)
        part = unwrapped(encoder)
        changed = Changed(self.pipe, tokenizer_name, tokenizer, own, part, embedding, weight, longer, old_eos)
        # Entered before anything is changed: from here on it can be undone.
        self._changed.append(changed)
        books = books_of(part)
        books.words = changed
        books.watch(WORDS, embedding)
        for module in old_eos:
            module.eos_token_id = tokenizer.eos_token_id
        embedding.weight.data = longer
        setattr(self.pipe, tokenizer_name, own)


def _by_encoder(parts: Mapping[str, Tensor], widths: Mapping[str, int]) -> dict[str, Tensor] | None:
    """The vectors for each text encoder; None if some are missing, of another width, or not as many as the others."""
    names = {
        "text_encoder": ("clip_l", "text"),
        "text_encoder_2": ("clip_g",) if len(widths) > 1 else ("clip_g", "text"),
    }
    found = {encoder: next((parts[name] for name in names[encoder] if name in parts), None) for encoder in widths}
    vectors = {encoder: tensor for encoder, tensor in found.items() if tensor is not None}
    fits = vectors.keys() == widths.keys() and all(vectors[name].shape[1] == width for name, width in widths.items())
    return vectors if fits and len({tensor.shape[0] for tensor in vectors.values()}) == 1 else None


def _knows(tokenizer: Any, word: str) -> bool:
    vocabulary = tokenizer.get_vocab()
    return word in vocabulary or f"{word}</w>" in vocabulary


def _tokens(word: str, vectors: Tensor) -> Iterator[tuple[str, Tensor]]:
    """One token a vector, named so that diffusers puts them all where the word stands."""
    for number, vector in enumerate(vectors):
        yield (f"{word}_{number}" if number else word), vector
