"""BaseWeights: the weights of a checkpoint, one at a time from its files, for deltas to be compared with."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

from torch import Tensor

from lib_lora.errors import AdapterFileError, CheckpointError
from lib_lora.formats.containers import TensorFile
from lib_lora.formats.header import read_header
from lib_lora.model.targets import Target, TargetIndex, index_checkpoint, index_diffusers

SUFFIX = ".safetensors"
FOLDERS = ("unet", "text_encoder", "text_encoder_2")  # of a model in the layout of diffusers


class BaseWeights:
    """Use in a `with`: called with a target, it gives the base weight that is meant, as stored, or None.

    `path`: a .safetensors checkpoint, or a folder in the layout of diffusers. Raises CheckpointError.
    """

    def __init__(self, path: Path) -> None:
        self._files = ExitStack()
        try:
            self.index, self._read = self._open_folder(path) if path.is_dir() else self._open_file(path)
        except (OSError, AdapterFileError) as error:
            self._files.close()
            raise CheckpointError(f"{path.name}: no checkpoint that can be read ({error})") from error

    def __call__(self, target: Target) -> Tensor | None:
        """The rows, or columns, that `target` means."""
        return None if target.new_bias_of is not None else target.view(self._read(target.key))

    def _open_file(self, path: Path) -> tuple[TargetIndex, Callable[[str], Tensor]]:
        if path.suffix.lower() != SUFFIX:
            raise CheckpointError(f"{path.name}: only {SUFFIX} checkpoints can be compared with; convert it first")
        header = read_header(path)
        return index_checkpoint(header.shapes), self._reader(path).read

    def _open_folder(self, path: Path) -> tuple[TargetIndex, Callable[[str], Tensor]]:
        readers: dict[str, TensorFile] = {}
        shapes: dict[str, dict[str, tuple[int, ...]]] = {}
        for name in FOLDERS:
            for file in sorted((path / name).glob(f"*{SUFFIX}")):
                reader = self._reader(file)
                for key, shape in read_header(file).shapes.items():
                    readers[f"{name}.{key}"] = reader
                    shapes.setdefault(name, {})[key] = shape
        if not shapes:
            raise CheckpointError(f"{path}: no folder of a model: it has no {'/, '.join(FOLDERS)}/ with {SUFFIX} files")
        return index_diffusers(shapes), lambda key: readers[key].read(key.partition(".")[2])

    def _reader(self, path: Path) -> TensorFile:
        reader = TensorFile(path)
        self._files.callback(reader.close)
        return reader

    def __enter__(self) -> BaseWeights:
        return self

    def __exit__(self, *_: object) -> None:
        self._files.close()
