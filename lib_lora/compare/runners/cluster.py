"""Actor: a runner on a cluster of Ray: one on each GPU, or on some cores, that keeps its pipeline loaded.

Adapters travel to it once each, through Ray's own store, and are checked by hash where they arrive: an actor needs no
folder that is shared with this machine. The checkpoint lies under the same path on every machine, or is the demo model.
"""

from __future__ import annotations

import logging
import os
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import ray

from lib_lora.compare.runner import Drawn, Ground, Needed, Task
from lib_lora.compare.runners.processes import ROOT, Loading, load
from lib_lora.errors import LoraError, RunnerError, first_line
from lib_lora.formats.hashes import hash_file
from lib_lora.formats.write import write_file

CORES = 4  # of an actor, where there is no GPU


class Worker:
    """What lives on the cluster: a pipeline and a folder of its own, into which adapters are sent."""

    def __init__(self, loading: Loading, threads: int | None) -> None:
        import torch

        if threads:
            torch.set_num_threads(threads)
        self._folder = tempfile.TemporaryDirectory(prefix="lib_lora-", ignore_cleanup_errors=True)
        self._local: Any = None
        self._loading = replace(loading, folders=(self._folder.name,), index=None)

    def pid(self) -> int:
        """Of its process."""
        return os.getpid()

    def open(self) -> dict[str, Any]:
        """The ground, or {"error": a sentence}."""
        try:
            self._local = self._local or load(self._loading)
            return asdict(self._local.open())
        except LoraError as error:
            return {"error": str(error)}

    def take(self, name: str, suffix: str, sha256: str, content: bytes) -> str:
        """Keep an adapter under the name that tags say; empty, or what went wrong."""
        path = Path(self._folder.name, f"{name}{suffix}")
        if not path.resolve().is_relative_to(Path(self._folder.name).resolve()):
            return f"{name} is no name of a file below a folder"
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            write_file(path, content)
            if hash_file(path).sha256 != sha256:
                path.unlink()
                return f"{name} did not arrive whole"
        except (OSError, LoraError) as error:
            return f"{name} could not be kept ({first_line(error)})"
        self._local.attached.library.refresh()
        return ""

    def draw(self, task: str) -> tuple[bytes | None, str]:
        """What `Local.draw` says."""
        drawn = self._local.draw(Task.from_json(task))
        return drawn.png, drawn.problem


def _connect(address: str | None) -> None:
    """Raises RunnerError. On this machine its programs find this very library, wherever they start."""
    before = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = os.pathsep.join([str(ROOT), before or ""])
    options = {"address": address} if address else {"address": "local", "include_dashboard": False}
    try:
        ray.init(**options, log_to_driver=False, logging_level=logging.ERROR, configure_logging=False)
    except (ConnectionError, ValueError, RuntimeError, OSError) as error:
        raise RunnerError(f"no cluster of Ray at {address or 'this machine'} ({first_line(error)})") from error
    finally:
        if before is None:
            del os.environ["PYTHONPATH"]
        else:
            os.environ["PYTHONPATH"] = before


class Store:
    """What is sent to several actors is put into Ray's store once."""

    def __init__(self) -> None:
        self._kept: dict[str, Any] = {}

    def put(self, needed: Needed) -> Any:
        """Raises OSError."""
        if needed.key not in self._kept:
            self._kept[needed.key] = ray.put(Path(needed.path).read_bytes())
        return self._kept[needed.key]


class Actor:
    """One `Worker`, asked from here."""

    def __init__(self, name: str, loading: Loading, store: Store, *, gpus: float, cores: float) -> None:
        self.name = name
        self._store = store
        made: Any = ray.remote(num_cpus=cores, num_gpus=gpus, max_restarts=0)(Worker)
        self._actor = made.remote(loading, None if gpus else max(int(cores), 1))
        self._opening = self._actor.open.remote()

    def open(self) -> Ground:
        """See Runner."""
        told = self._get(self._opening)
        if "error" in told:
            raise RunnerError(told["error"])
        return Ground(**{**told, "size": tuple(told["size"])})

    def lacks(self, needed: Sequence[Needed]) -> dict[str, str]:
        """See Runner: what is here is sent there."""
        missing: dict[str, str] = {}
        for each in needed:
            if not each.path or not each.sha256:
                continue  # nobody has it: the picture's report will say so
            try:
                content = self._store.put(each)
            except OSError as error:
                missing[each.key] = f"{each.name} cannot be read ({error.strerror})"
                continue
            told = self._get(self._actor.take.remote(each.name, Path(each.path).suffix, each.sha256, content))
            if told:
                missing[each.key] = f"{self.name}: {told}"
        return missing

    def draw(self, task: Task) -> Drawn:
        """See Runner."""
        return Drawn(*self._get(self._actor.draw.remote(task.to_json())))

    def close(self) -> None:
        """See Runner."""
        if ray.is_initialized():
            ray.kill(self._actor)

    def _get(self, promise: Any) -> Any:
        try:
            return ray.get(promise)
        except ray.exceptions.RayTaskError as error:  # a fault of ours in there
            raise RunnerError(first_line(error.cause or error)) from error
        except (ray.exceptions.RayError, RuntimeError) as error:
            raise RunnerError(f"the actor is lost ({first_line(error)})") from error


def start(loading: Loading, address: str | None, count: int | None) -> list[Actor]:
    """As many actors as the cluster has GPUs, or room for in cores; None: a cluster on this machine. RunnerError."""
    if not ray.is_initialized():
        _connect(address)
    there = ray.cluster_resources()
    gpus, cores = int(there.get("GPU", 0)), int(there.get("CPU", 1))
    wanted = count or gpus or max(cores // CORES, 1)
    share = 1.0 if gpus else max(cores // wanted, 1) if count else min(CORES, cores)
    store = Store()
    return [Actor(f"actor {number + 1}", loading, store, gpus=1.0 if gpus else 0.0, cores=share)
            for number in range(wanted)]  # fmt: skip
