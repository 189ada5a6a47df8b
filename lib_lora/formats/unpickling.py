"""The tensors of a file of torch's, made from the places that `torch_file.py` has checked; torch never opens the file.

Older versions of torch run code in files that claim to be programs, also when they are asked for weights only.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import torch
from torch import Tensor

from lib_lora.errors import AdapterFileError
from lib_lora.formats.opening import open_file
from lib_lora.formats.pickles import ITEMSIZES, PickleError
from lib_lora.formats.torch_file import begin_of, listing_of, read_into

PICKLES = (".pt", ".pth", ".ckpt", ".bin")
FLOAT8 = tuple(getattr(torch, name) for name in ("float8_e4m3fn", "float8_e5m2") if hasattr(torch, name))
DTYPES = {name: getattr(torch, name) for name in ITEMSIZES if hasattr(torch, name)}


def read_pickle(path: Path) -> dict[str, Tensor]:
    """The tensors by name, in memory of their own. Raises AdapterFileError."""
    with TorchFile(path) as file:
        return {name: file.read(name) for name in file.listing.tensors}


class TorchFile:
    """An open file of torch's, whose tensors are read when they are asked for. Raises AdapterFileError.

    `keep`: storages that were read stay in memory, as several tensors may lie in one; else only the last one does.
    """

    def __init__(self, path: Path, *, keep: bool = True) -> None:
        self._name = path.name
        self._keep = keep
        self._storages: dict[str, Tensor] = {}
        try:
            self._file = open_file(path)  # closed by `close`
        except OSError as error:
            raise self._unreadable(error) from error
        try:
            self.listing = listing_of(self._file, path.name)
        except OSError as error:
            self.close()
            raise self._unreadable(error) from error
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> TorchFile:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the file; tensors that were read stay."""
        self._file.close()
        self._storages = {}

    def read(self, name: str) -> Tensor:
        """One tensor."""
        about = self.listing.tensors[name]
        dtype = DTYPES.get(about.dtype)
        if dtype is None:
            raise AdapterFileError(
                f"{self._name}: {name!a} holds numbers of the type {about.dtype}, which torch {torch.__version__} "
                "does not know; save it again as float16"
            )
        if about.count == 0:
            return torch.empty(about.shape, dtype=dtype, device="cpu")
        data = self._storage(about.storage.key)
        whole = data[: data.numel() // dtype.itemsize * dtype.itemsize].view(dtype)
        return whole.as_strided(about.shape, about.strides, about.offset)

    def names(self) -> Iterable[str]:
        """Of the tensors, in the order of the bytes."""
        tensors, places = self.listing.tensors, self.listing.places
        return sorted(tensors, key=lambda name: (places[tensors[name].storage.key].begin, tensors[name].offset))

    def _storage(self, key: str) -> Tensor:
        if key not in self._storages:
            place = self.listing.places[key]
            if not self._keep:
                self._storages = {}
            try:
                data = torch.empty(place.size, dtype=torch.uint8, device="cpu")
                read_into(self._file, begin_of(self._file, place), data.numpy().data)
            except PickleError as error:
                raise AdapterFileError(
                    f"{self._name}: its data are incomplete ({error}); download it again, or wait until it is written"
                ) from error
            except OSError as error:
                raise self._unreadable(error) from error
            self._storages[key] = data
        return self._storages[key]

    def _unreadable(self, error: OSError) -> AdapterFileError:
        return AdapterFileError(
            f"{self._name} cannot be read ({error.strerror or error}): check the file and its rights"
        )
