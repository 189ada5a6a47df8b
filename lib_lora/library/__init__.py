"""The library: what lies in the adapter folders, indexed without reading a tensor, found by whatever users call it.

index      Library: finds and answers            entry      Entry: one file, as everybody sees it
scan       brings the index up to date           reading    a file -> the rows of the index
workers    several files at once                 database   the rows on disk (SQLite)
lookup     typed names -> entries                helpers    what other tools left beside a file
keeper     what is asked of single entries       marks      the user's favourites and tags
hashing    all hashes, in the background         duplicates what is there twice
readable   headers as they are shown and sent    ahead      headers, read before their turn
rescue     what is saved of a damaged index      place      where the index of a user's own folders is
pickled    names and shapes of .pt files, without torch and without running them
"""

from __future__ import annotations

from lib_lora.library.entry import Details, Entry
from lib_lora.library.index import Library
from lib_lora.library.scan import Progress, RefreshResult

__all__ = ["Details", "Entry", "Library", "Progress", "RefreshResult"]
