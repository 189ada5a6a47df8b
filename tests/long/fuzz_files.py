"""python -m tests.long.fuzz_files --minutes N: damaged files for N minutes, read by everything that reads files.

Each batch runs in a process of its own with a limit on its memory, and each file has a limit on its time. Whatever is
not one of our errors is kept in --keep and counted: crashes (a signal, or too long), other exceptions, slow files, and
answers that are no JSON or no UTF-8.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import resource
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from collections import Counter
from pathlib import Path

from tests.long.damage import damaged

BATCH = 2000  # files of one process
MEMORY = 1 << 30  # bytes that a process may take beyond what it has when it begins
SLOW = 1.0  # seconds of the processor for one file
HANG = 60  # seconds without a word of the child


def read_all(path: Path) -> None:
    """Everything that is done with a file that was found. Raises what is not one of our errors."""
    import torch

    from lib_lora.adapters.adapter import read_adapter
    from lib_lora.errors import LoraError
    from lib_lora.formats.hashes import hash_file
    from lib_lora.library.files import look_again
    from lib_lora.library.reading import Learnt, fetch, make_entry, read_texts

    with contextlib.suppress(LoraError):
        hash_file(path)
    found = look_again(path, path.parent, path.stem)
    if found is not None:
        texts = read_texts(found, fetch(found), Learnt())
        for text in (texts.entry, texts.details, texts.metadata, texts.header or "{}"):
            json.loads(text, parse_constant=_no_json)
        "".join((texts.entry, texts.search, texts.details, texts.metadata)).encode()
        json.dumps(make_entry(1, found, texts.entry, None).rank, allow_nan=False)  # type: ignore[arg-type]
    try:
        adapter = read_adapter(path)
    except LoraError as error:
        _check_sentence(str(error), path)
        return
    "".join((*adapter.modules, *adapter.unknown, *adapter.refused, *adapter.notes)).encode()
    for deltas in adapter.modules.values():
        for delta in deltas.values():
            assert isinstance(delta.rank, int | None)
    assert all(isinstance(tensor, torch.Tensor) for parts in adapter.embeddings.values() for tensor in parts.values())


def _check_sentence(said: str, path: Path) -> None:
    said.encode()
    assert path.name in said, said[:3000]
    assert len(said) < 3000, said[:3000]


def _no_json(word: str) -> None:
    raise ValueError(f"{word} is no JSON")


def work(first: int, keep: Path) -> None:
    """Read a batch; a line of output for each that went wrong, and now and then one that says how far it is."""
    import lib_lora.adapters.adapter  # noqa: F401  (what it takes does not count)

    size = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (size + MEMORY,) * 2)
    with tempfile.TemporaryDirectory(prefix="fuzz-") as folder:
        for seed in range(first, first + BATCH):
            name, content = damaged(seed)
            path = Path(folder) / name
            path.write_bytes(content)
            print("at", seed, flush=True)
            start = time.process_time()
            try:
                read_all(path)
            except Exception as error:
                place = traceback.extract_tb(error.__traceback__)[-1]
                print("exception", seed, f"{type(error).__name__} at {place.filename}:{place.lineno}: {error!s:.150}")
                (keep / f"{seed}{path.suffix}").write_bytes(content)
            if (took := time.process_time() - start) > SLOW:
                print("slow", seed, f"{took:.1f} s for {len(content)} bytes")
                (keep / f"{seed}{path.suffix}").write_bytes(content)
            path.unlink()


def batch(first: int, keep: Path, counts: Counter[str]) -> None:
    """One process; what it says is counted."""
    command = [sys.executable, "-m", "tests.long.fuzz_files", "--first", str(first), "--keep", str(keep), "--child"]
    child = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace")
    last = first
    assert child.stdout is not None
    watch = [time.monotonic()]

    def guard() -> None:
        while child.poll() is None:
            time.sleep(1)
            if time.monotonic() - watch[0] > HANG:
                child.kill()

    threading.Thread(target=guard, daemon=True).start()
    for line in child.stdout:
        watch[0] = time.monotonic()
        kind, _, rest = line.partition(" ")
        if kind == "at":
            last = int(rest)
            counts["files"] += 1
        elif kind in ("exception", "slow"):
            counts[kind] += 1
            print(line.rstrip(), flush=True)
        else:
            print("  ", line.rstrip(), flush=True)
    if child.wait() != 0:
        counts["crashes"] += 1
        print("crash", last, f"exit status {child.returncode}", flush=True)
        name, content = damaged(last)
        (keep / f"{last}{os.path.splitext(name)[1]}").write_bytes(content)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=5)
    parser.add_argument("--first", type=int, default=0, help="seed of the first file")
    parser.add_argument("--keep", type=Path, default=Path(tempfile.gettempdir()) / "fuzz-kept")
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    options.keep.mkdir(parents=True, exist_ok=True)
    if options.child:
        work(options.first, options.keep)
        return 0
    counts: Counter[str] = Counter(files=0, crashes=0, exception=0, slow=0)
    end, first = time.monotonic() + options.minutes * 60, options.first
    while time.monotonic() < end:
        batch(first, options.keep, counts)
        first += BATCH
    print(", ".join(f"{name}: {count}" for name, count in counts.items()), f"(seeds {options.first} to {first - 1})")
    return 1 if counts["crashes"] or counts["exception"] or counts["slow"] else 0


if __name__ == "__main__":
    sys.exit(main())
