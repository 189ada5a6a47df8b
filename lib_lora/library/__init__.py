"""The library: what lies in the adapter folders, indexed without reading a tensor, found by whatever users call it.

index      Library: finds and answers            entry      Entry: one file, as everybody sees it
scan       brings the index up to date           reading    a file -> the rows of the index
workers    several files at once                 database   the rows on disk (SQLite), whatever happens to it
tables     how it is laid out, opened, mended    lookup     typed names -> entries
files      what lies in the folders              helpers    what other tools left beside a file
sidecar    the notes and pictures beside a file  mark       what the user says of one adapter
keeper     what is asked of single entries       marks      all favourites and tags, which follow their files
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
