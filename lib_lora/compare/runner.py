"""Runner: one that draws cells; what it is told, and what it answers. All of it can be written as JSON. No torch."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Protocol

RECIPE = 1  # counts up when what `digest` covers changes


@dataclass(frozen=True)
class Ground:
    """What a runner draws on: what decides all of its pictures alike, and what suits its model."""

    engine: str  # programs, their versions, the device
    checkpoint: str  # a hash of it
    model: str  # what it is called
    steps: int
    guidance: float
    size: tuple[int, int]  # width, height
    sampler: str

    @property
    def identity(self) -> tuple[str, str]:
        """Runners with the same draw the same pictures."""
        return self.engine, self.checkpoint


@dataclass(frozen=True)
class Needed:
    """A file that a picture needs, by the name that its tag says and by what it holds."""

    name: str
    sha256: str  # of the whole file; empty: it cannot be read, or nobody has it
    tensors: str  # what decides the picture: the hash of the tensors and of what else is read with them
    size: int = 0
    path: str = ""  # on this machine; empty: it is elsewhere

    @property
    def key(self) -> str:
        """What tells one content from another."""
        return self.sha256 or self.tensors or self.name


@dataclass(frozen=True)
class Task:
    """One picture, with nothing left open."""

    prompt: str  # with its tags
    negative: str
    steps: int
    guidance: float
    size: tuple[int, int]
    sampler: str
    seed: int
    files: tuple[Needed, ...]  # of all tags

    def digest(self, ground: Ground) -> str:
        """Another one if anything is different that decides the picture."""
        decides: dict[str, Any] = {
            **asdict(self), "ground": ground.identity, "recipe": RECIPE,
            "files": sorted({(each.name, each.tensors) for each in self.files}),
        }  # fmt: skip
        return hashlib.sha256(json.dumps(decides, sort_keys=True).encode("utf-8", "replace")).hexdigest()

    def to_json(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Task:
        told = json.loads(text)
        files = tuple(Needed(**each) for each in told.pop("files"))
        return cls(**{**told, "size": tuple(told["size"]), "files": files})


@dataclass(frozen=True)
class Drawn:
    """A PNG with its text, or None and the reason. A picture may have a problem too: something worth knowing."""

    png: bytes | None
    problem: str = ""


class Runner(Protocol):
    """Draws one cell at a time; `compare` gives each its own thread. A new kind is a class with these five:

    >>> class Grey:
    ...     name = "grey"
    ...
    ...     def open(self):  # what it draws on; RunnerError if it cannot
    ...         return Ground("grey 1", "no checkpoint", "grey", steps=1, guidance=1.0, size=(8, 8), sampler="none")
    ...
    ...     def lacks(self, needed):  # {key of a file: why it cannot draw with that}
    ...         return {}
    ...
    ...     def draw(self, task):  # RunnerError: it is lost, and the task goes to others
    ...         file = io.BytesIO()
    ...         Image.new("L", task.size, 100 + task.seed).save(file, "png")
    ...         return Drawn(file.getvalue())
    ...
    ...     def close(self):
    ...         pass
    >>> from lib_lora.compare.run import compare
    >>> grid = Grid((Subject("ink", "Ink"),), ("0", "1"), ("a castle",), (1, 2))
    >>> done = compare(grid, Path("out"), [Grey()])
    >>> [(cell["weight"], cell["seed"], cell["problem"]) for cell in done.told()]
    [(0, 1, None), (0, 2, None), (1, 1, None), (1, 2, None)]
    """

    name: str  # what sentences call it

    def open(self) -> Ground:
        """Get ready, and say what it draws on. Raises RunnerError."""
        ...

    def lacks(self, needed: Sequence[Needed]) -> dict[str, str]:
        """{`key` of a file that it cannot draw with: a sentence}. Raises RunnerError."""
        ...

    def draw(self, task: Task) -> Drawn:
        """The picture, or why there is none. Raises RunnerError if it cannot draw any more."""
        ...

    def close(self) -> None:
        """Let go of everything; also from another thread, while it draws."""
        ...
