"""The installed adapters under the names that the WebUI's cards, tags and other extensions use."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from modules import paths, shared
from modules.cache import cache_dir

from lib_lora.errors import LoraError, NotFoundError
from lib_lora.grammar.tag import is_typable
from lib_lora.library import Entry, Library
from lib_lora.webui import settings

RESERVED = frozenset({"none", "addams"})  # names with a meaning of their own for the built-in extension


def folders() -> list[Path]:
    """Where adapters lie: the built-in's flags where it defines them, else `models/Lora`. Made if it is not there."""
    main = Path(getattr(shared.cmd_opts, "lora_dir", None) or os.path.join(paths.models_path, "Lora"))
    main.mkdir(parents=True, exist_ok=True)
    older = getattr(shared.cmd_opts, "lyco_dir_backcompat", None)
    return [main, *([Path(older)] if older and os.path.isdir(older) else [])]


class Catalogue:
    """A library and a name for each of its entries; a finder for sessions."""

    def __init__(self) -> None:
        self.library = _open_library()
        self.on_change: list[Callable[[], None]] = []  # called when the list is another one
        self._by_name: Mapping[str, Entry] | None = None
        self._names: Mapping[int, str] = {}  # by the entry's id
        self._plain_aliases: frozenset[int] = frozenset()  # ids of entries whose alias means them and no other
        self.library.on_change.append(self._name_all)

    def refresh(self) -> None:
        """Look at the folders again."""
        self.library.refresh()

    @property
    def by_name(self) -> Mapping[str, Entry]:
        """{short name: entry}, in order: the file's name where it is the only one, else its path below the folder."""
        if self._by_name is None:
            self.library.entries()  # the first question causes the first scan
        return self._by_name or {}

    def find(self, name: str) -> Entry:
        """See `Library.find`."""
        return self.library.find(name)

    def ambiguity(self, name: str) -> str | None:
        """See `Library.ambiguity`."""
        return self.library.ambiguity(name)

    def get(self, name: str) -> Entry | None:
        """The entry with this short name, or what else the name means; None if there is none."""
        try:
            return self.by_name.get(name) or self.find(name)
        except NotFoundError:
            return None

    def name(self, entry: Entry) -> str:
        """Its short name."""
        return self._names.get(entry.id, entry.name)

    def prompt_name(self, entry: Entry) -> str:
        """What stands in a tag: the alias if the user's settings want it and it means no other file, else the name."""
        by_file = settings.get("lora_preferred_name") == settings.NAMES[1]
        name = self.name(entry) if by_file or entry.id not in self._plain_aliases else entry.alias
        return name if is_typable(name) else entry.shorthash or name

    def names(self, entry: Entry) -> list[str]:
        """What a tag can call it so that it means this file and no other."""
        stem = [entry.stem] if self.name(entry) == entry.stem or self.library.means(entry.stem, entry) else []
        alias = [entry.alias] if entry.id in self._plain_aliases else []
        return list(dict.fromkeys([self.name(entry), entry.name, *stem, *alias]))

    def known_hash(self, entry: Entry) -> str:
        """The hash the WebUI goes by, as far as it is known without reading the file; empty if it is not."""
        known = self.library.known_hashes(entry)
        return known.tensors or known.sha256 if known else next(iter(entry.stated_hashes), "")

    def has_hash(self, entry: Entry, start: str) -> bool:
        """Whether a hash that is known of this file, computed or stated by it, begins with `start`."""
        known = self.library.known_hashes(entry)
        computed = (known.tensors, known.sha256, known.autov1) if known else ()
        return any(each.startswith(start) for each in (*computed, *entry.stated_hashes))

    def _name_all(self) -> None:
        entries = self.library.entries()
        stems = Counter(entry.stem for entry in entries)
        names = Counter(entry.name for entry in entries)
        named: dict[str, Entry] = {}
        for entry in entries:
            full = entry.name if names[entry.name] == 1 else f"{entry.name}{entry.extension}"
            named.setdefault(entry.stem if stems[entry.stem] == 1 else full, entry)
        self._names = {entry.id: name for name, entry in named.items()}
        self._plain_aliases = frozenset(_plain_aliases(entries))
        self._by_name = named
        for tell in self.on_change:
            tell()


def _open_library() -> Library:
    database = Path(cache_dir, "lib_lora.sqlite")
    try:
        database.parent.mkdir(parents=True, exist_ok=True)
        return Library(folders(), database=database)
    except (LoraError, OSError) as error:
        print(f"lib_lora: {error}; until then the adapters are listed anew at each start")
        return Library(folders())


def _plain_aliases(entries: list[Entry]) -> Any:
    aliases = Counter(entry.alias.casefold() for entry in entries)
    files = Counter(name for entry in entries for name in {entry.stem.casefold(), entry.name.casefold()})
    for entry in entries:
        alias = entry.alias.casefold()
        own = alias in (entry.stem.casefold(), entry.name.casefold())
        if aliases[alias] == 1 and files[alias] == own and is_typable(alias) and alias not in RESERVED:
            yield entry.id
