"""A found file -> what the index keeps of it: `entry`, light and in memory; `details` and `metadata`, on disk.

All three are JSON texts; ours are in ASCII, so that the database takes whatever odd characters a header holds.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from operator import itemgetter
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

from lib_lora.describe import families
from lib_lora.describe.metadata import Facts, read_facts, trained_tags
from lib_lora.describe.survey import Survey, group, survey
from lib_lora.errors import AdapterFileError
from lib_lora.formats.hashes import stated_hashes
from lib_lora.formats.header import Layouts, Listing, RawHeader, check_header, read_raw
from lib_lora.formats.json_text import read_json
from lib_lora.formats.kinds import TORCH, kind_of
from lib_lora.formats.opening import open_file
from lib_lora.formats.text import encodable, printable
from lib_lora.grammar.trigger_words import spoken
from lib_lora.library.entry import Details, Entry, Store
from lib_lora.library.files import Found
from lib_lora.library.helpers import Helpers, preview, read_helpers
from lib_lora.library.pickled import read_shapes
from lib_lora.library.readable import readable
from lib_lora.library.sidecar import Notes, SidecarError, read_notes

HEADED = ".safetensors"
NO_FAMILY = families.Family("unknown")
MAX_AHEAD = 4 << 20  # bytes of a header that is read before its turn
USUAL = 1 << 19  # bytes; few headers are longer
MAX_UNKNOWN = 50
MAX_SEARCH = 3000  # characters of one file that are searched besides names and words; 30 MB for 10,000 files


class Texts(NamedTuple):
    """The rows of one file."""

    entry: str
    search: str  # in lower case
    details: str
    metadata: str  # made by `readable`
    header: str | None  # the header's metadata as JSON, where `original` cannot tell them from `metadata`
    is_lasting: bool = True  # False: the disk refused, which says nothing about the next time


@dataclass
class Learnt:
    """What one scan has learnt about tensor listings; many files share one."""

    layouts: Layouts = field(default_factory=Layouts)  # without their tensors: those are 300 kB each
    results: dict[str, tuple[Survey, families.Narrowed]] = field(default_factory=dict)


def announce(found: Found) -> None:
    """Have the system read the header of `found` from the disk, beside others, before it is fetched."""
    if hasattr(os, "posix_fadvise") and found.path.suffix.lower() == HEADED and not found.problem:
        with contextlib.suppress(OSError), open_file(found.path) as file:
            os.posix_fadvise(file.fileno(), 0, USUAL, os.POSIX_FADV_WILLNEED)


def fetch(found: Found) -> RawHeader | None:
    """The header of `found`, to be read before its turn; None if that is for its turn, to fail in perhaps."""
    if found.path.suffix.lower() == HEADED and not found.problem:
        with contextlib.suppress(Exception):  # whatever it is, `read_texts` meets it again and tells
            return read_raw(found.path, most=MAX_AHEAD)
    return None


def read_texts(found: Found, raw: RawHeader | None, learnt: Learnt) -> Texts:
    """What `raw`, the header, and the sidecars of `found` say. Never raises for a file: the entry says what is wrong.

    The one place that catches whatever a reader raises: a file that nobody foresaw shall hide no other.
    """
    try:
        return _encodable(_read_texts(found, raw, learnt))
    except Exception as error:  # no reader does this on purpose
        return broken_texts(found, _not_understood(found, error))


def broken_texts(found: Found, sentence: str) -> Texts:
    """What is kept of a file of which nothing can be read."""
    entry = _entry(found, frozenset(), Facts(found.path.stem), Helpers(), Notes(), Survey(), NO_FAMILY)
    entry |= {"stated_hashes": (), "warnings": found.strange, "broken": encodable(sentence)}
    return Texts(json.dumps(entry), "", json.dumps(vars(Details())), "{}", None)


def _not_understood(found: Found, error: Exception) -> str:
    reason = printable(f"{type(error).__name__}: {error}"[:200])
    return f"{found.path.name} cannot be understood ({reason}): take it out of the folder"


def _encodable(texts: Texts) -> Texts:
    """Whatever a reader lets through, the database takes."""
    header = None if texts.header is None else encodable(texts.header)
    return texts._replace(search=encodable(texts.search), metadata=encodable(texts.metadata), header=header)


def _read_texts(found: Found, raw: RawHeader | None, learnt: Learnt) -> Texts:
    beside = frozenset(name for name, _ in found.beside)
    notes, unread = Notes(), []
    try:
        notes = read_notes(found.path) if f"{found.path.stem}.json" in beside else notes
    except SidecarError as error:
        unread.append(str(error))
    helpers = read_helpers(found.path, beside, notes.everything)
    warnings = [*found.strange, *helpers.problems, *unread]
    metadata: Mapping[str, str] = {}
    metadata_json, content, narrowed, broken, is_lasting = "{}", Survey(), families.Narrowed((), ()), "", True
    try:
        if found.problem:
            raise AdapterFileError(f"{found.path.name} cannot be read: {found.problem}")
        metadata, metadata_json, content, narrowed = _read_file(found.path, raw, learnt)
        broken = f"{found.path.name} is {content.refused}" if content.refused else ""
    except AdapterFileError as error:
        broken, is_lasting = str(error), not isinstance(error.__cause__, OSError)
    except Exception as error:  # see `read_texts`; its notes and its preview are shown all the same
        broken = _not_understood(found, error)
    facts = read_facts(metadata, found.path.stem)
    family = families.conclude(narrowed, metadata, helpers.base_model or None)
    family = families.chosen(notes.sd_version, family)
    entry = _entry(found, beside, facts, helpers, notes, content, family)
    entry["stated_hashes"] = (*stated_hashes(metadata), *helpers.hashes)
    entry |= {"warnings": warnings, "broken": broken or None}
    details = _details(facts, helpers, notes, content)
    shown, is_whole = readable(metadata)
    header = None if is_whole else metadata_json
    return Texts(
        json.dumps(entry), search_text(details, metadata), json.dumps(vars(details)), shown, header, is_lasting
    )


def _read_file(
    path: Path, raw: RawHeader | None, learnt: Learnt
) -> tuple[Mapping[str, str], str, Survey, families.Narrowed]:
    if raw is None and kind_of(path) == TORCH:  # whatever its ending
        return {}, "{}", *_look(read_shapes(path))
    header = check_header(raw or read_raw(path), layouts=learnt.layouts)
    if header.layout not in learnt.results:
        learnt.results[header.layout] = _look(header.shapes)
        end = learnt.layouts[header.layout].end
        learnt.layouts[header.layout] = Listing(MappingProxyType({}), end)  # all else that it said is in the results
    return header.metadata, header.metadata_json, *learnt.results[header.layout]


def _look(shapes: Mapping[str, tuple[int, ...]]) -> tuple[Survey, families.Narrowed]:
    grouped = group(shapes)
    return survey(shapes, grouped=grouped), families.narrow(shapes, grouped=grouped)


def _entry(
    found: Found, beside: frozenset[str], facts: Facts, helpers: Helpers, notes: Notes, content: Survey,
    family: families.Family,
) -> dict[str, Any]:  # fmt: skip
    picture = preview(found.path, beside)
    activation = spoken(notes.activation_text)
    return {
        "alias": facts.alias,
        "title": facts.title or helpers.title,
        "kind": json.dumps(_kind_of(family, content)),
        "trigger_words": helpers.trigger_words or facts.trigger_words,
        "activation_text": activation,
        "activation_typed": notes.activation_text if notes.activation_text != activation else "",
        "negative_text": spoken(notes.negative_text),
        "preferred_weight": notes.preferred_weight or helpers.preferred_weight,
        "preview_name": picture.name if picture else None,
        "stated_favorite": helpers.favorite,
        "license": facts.license or helpers.license,
        "notes_digest": notes.digest,
    }


def _kind_of(family: families.Family, content: Survey) -> dict[str, Any]:
    """What thousands of entries have alike."""
    return {
        "family": (family.id, family.flavour, family.evidence, family.possible),
        "algorithms": content.algorithms,
        "rank": content.ranks,
        "modules": content.modules,
        "components": content.components,
    }


def _details(facts: Facts, helpers: Helpers, notes: Notes, content: Survey) -> Details:
    return Details(
        description=notes.description or helpers.description or facts.description,
        notes=notes.notes,
        sd_version=notes.sd_version,
        author=facts.author,
        license=facts.license or helpers.license,
        prediction_type=facts.prediction_type,
        tags=helpers.tags,
        embeddings=content.embeddings[:MAX_UNKNOWN],
        unknown=content.unknown[:MAX_UNKNOWN],
    )


def search_text(details: Details, metadata: Mapping[str, str]) -> str:
    """Notes, description and trained tags, the most frequent first, as far as MAX_SEARCH reaches."""
    texts = (details.notes[: MAX_SEARCH // 2], details.description[: MAX_SEARCH // 4], details.author, *details.tags)
    tags = map(itemgetter(0), trained_tags(metadata, limit=MAX_SEARCH // 10))  # shorter ones are seldom
    return encodable("\n".join((*texts, *tags)).casefold()[:MAX_SEARCH])


def make_entry(number: int, found: Found, text: str, store: Store) -> Entry:
    """The entry of `found`, from what `read_texts` wrote."""
    value: dict[str, Any] = read_json(text)
    kind = _kind(value.pop("kind"))
    for name, item in value.items():
        if type(item) is list:
            value[name] = tuple(item)
    return Entry(
        id=number,
        location=found.location,
        folder=found.folder,
        name=found.name,
        size=found.size,
        mtime_ns=found.mtime_ns,
        _store=store,
        **kind,
        **value,
    )


@lru_cache(maxsize=512)
def _kind(text: str) -> dict[str, Any]:
    """What `_kind_of` told: the same objects for all entries of a kind."""
    kind = {name: _frozen(item) for name, item in read_json(text).items()}
    return {**kind, "family": _family(*kind["family"])}


@lru_cache(maxsize=512)  # kinds have one of a few families
def _family(number: str, flavour: str | None, evidence: tuple[str, ...], possible: tuple[str, ...]) -> families.Family:
    return families.Family(number, flavour, evidence, possible)


def _frozen(value: Any) -> Any:
    return tuple(map(_frozen, value)) if type(value) is list else value
