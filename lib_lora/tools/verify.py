"""verify(): a file against the hashes that it states of itself."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from lib_lora.errors import AdapterFileError
from lib_lora.formats.hashes import STORED, Hashes, hash_file
from lib_lora.formats.header import read_header
from lib_lora.formats.kinds import TORCH, kind_of

OF_TENSORS = ("sshs_model_hash", "modelspec.hash_sha256")


@dataclass(frozen=True)
class Statement:
    """One hash that the header states."""

    key: str
    stated: str
    found: str  # "" for a recipe that cannot be repeated
    is_right: bool | None  # None: nobody can tell


@dataclass(frozen=True)
class Verified:
    """What became of all of them."""

    hashes: Hashes
    statements: tuple[Statement, ...]

    @property
    def is_right(self) -> bool:
        """False if one of them is wrong."""
        return all(each.is_right is not False for each in self.statements)


def verify(path: Path) -> Verified:
    """One pass over the file. Raises AdapterFileError for one that cannot be read or was cut off."""
    metadata = {} if kind_of(path) == TORCH else read_header(path).metadata
    hashes = hash_file(path)
    return Verified(hashes, tuple(_statement(key, metadata[key], hashes) for key in STORED if key in metadata))


def _statement(key: str, stated: str, hashes: Hashes) -> Statement:
    value = stated.strip().lower()
    if key not in OF_TENSORS or (value.startswith("0x") and key == "sshs_model_hash"):
        return Statement(key, stated, "", None)
    found = hashes.tensors
    digits = value.removeprefix("0x")
    if not digits:
        raise AdapterFileError(f"{key} is empty")
    return Statement(key, stated, found, found.startswith(digits) if len(digits) >= 8 else False)
