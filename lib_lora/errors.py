"""Every error that lib_lora raises on purpose.

    LoraError                 anything below; its text is a whole sentence for the person who typed the prompt
    ├── TagError              a <lora:...> tag that cannot be read
    ├── NotFoundError         no installed adapter has that name (carries the nearest names)
    │   └── AmbiguousNameError    several have it, if the case of letters does not count
    ├── AdapterFileError      the file is missing, broken, hostile, or not an adapter
    ├── WrongBaseError        the adapter was made for another base model
    ├── CheckpointError       a base checkpoint that cannot be read or whose layout is unknown
    ├── RunnerError           one of those that draw a comparison cannot, or not any more: its cells go to the others
    └── PatchError            writing into the model failed; the base weights are back in place

Core code raises; `Session.activate` is the one place that catches adapter errors and turns them into a report.
"""

from __future__ import annotations

from collections.abc import Sequence


def is_out_of_memory(error: BaseException) -> bool:
    """True for what torch raises when a CPU or GPU allocation fails (some versions only say it in words)."""
    said = str(error).lower()
    return isinstance(error, MemoryError) or "out of memory" in said or "allocate memory" in said


def first_line(error: BaseException) -> str:
    """What it says, in one line; its type's name if it says nothing."""
    return next(iter(str(error).splitlines()), "") or type(error).__name__


class LoraError(Exception):
    """Base of all errors of this package; `str(error)` is shown to the user as it is, and can be written anywhere.

    Names of files may hold half characters, which no file, database or answer takes.
    """

    def __init__(self, message: str = "") -> None:
        super().__init__(message.encode("utf-8", "replace").decode("utf-8"))


class TagError(LoraError):
    """A tag that cannot be read; the others of the prompt are not affected."""


class NotFoundError(LoraError):
    """No adapter of that name; `nearest` holds up to three names that the user may have meant."""

    def __init__(self, name: str, nearest: Sequence[str] = ()) -> None:
        self.name = name
        self.nearest = tuple(nearest)
        hint = f"; did you mean {' or '.join(self.nearest)}?" if nearest else "; is the file in the adapter folder?"
        super().__init__(f"Lora not found: {name}{hint}")


class AmbiguousNameError(NotFoundError):
    """Several adapters differ from the name, and from each other, in case only: `nearest` holds them."""

    def __init__(self, name: str, nearest: Sequence[str]) -> None:
        super().__init__(name, nearest)
        self.args = (f"Lora not found: {name}; {' and '.join(nearest)} differ only in case, write one of them",)


class AdapterFileError(LoraError):
    """A file that cannot be used as an adapter; the text names the file and what to do."""


class WrongBaseError(LoraError):
    """An adapter for another base model: nothing of it is applied."""


class CheckpointError(LoraError):
    """A base checkpoint that cannot be read or written."""


class RunnerError(LoraError):
    """A runner that cannot draw, or not any more; what it was drawing can be drawn elsewhere."""


class PatchError(LoraError):
    """Writing a plan into the model failed; every weight is the base weight again.

    `source` names the adapter whose arithmetic failed, where it was one adapter's fault.
    """

    def __init__(self, message: str, source: str | None = None) -> None:
        self.source = source
        super().__init__(message)
