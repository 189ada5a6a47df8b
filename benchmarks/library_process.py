"""What is measured in a process of its own: `python -m benchmarks.library_process floor|scan|serve FOLDER DATABASE`.

floor     read the headers and nothing else: the time that a scan cannot be below
scan      bring the index up to date
serve     the listing's routes, and a page with nothing but the listing; its first line: port, seconds of imports

No torch, no Gradio: what is measured is the library.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]


def run(job: str, folder: Path, database: Path) -> dict[str, Any]:
    """What the job tells on its last line."""
    done = subprocess.run(_command(job, folder, database), cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@contextmanager
def served(folder: Path, database: Path) -> Iterator[dict[str, Any]]:
    """{"pid", "port", "url", "imports"} of a process that serves `folder`."""
    with subprocess.Popen(_command("serve", folder, database), cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout
            told = json.loads(process.stdout.readline() or "null")
            assert told, "the server did not start"
            yield {**told, "pid": process.pid, "url": f"http://127.0.0.1:{told['port']}"}
        finally:
            process.kill()


def memory(pid: int | str = "self") -> int:
    """Bytes of the process in main memory; 0 where the system does not say."""
    status = Path(f"/proc/{pid}/status")
    lines = status.read_text().splitlines() if status.exists() else []
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("VmRSS")), 0)


def forget(folder: Path) -> bool:
    """Drop the files from the page cache; False where the system cannot."""
    if not hasattr(os, "posix_fadvise"):
        return False
    os.sync()  # what is not written yet cannot be dropped
    for path in folder.rglob("*"):
        if path.is_file():
            with open(path, "rb") as file:
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    return True


def _command(job: str, folder: Path, database: Path) -> list[str]:
    return [sys.executable, "-m", "benchmarks.library_process", job, str(folder), str(database)]


def _floor(folder: Path, _: Path) -> None:
    started, count = time.perf_counter(), 0
    for place, _folders, names in os.walk(folder):
        for name in names:
            if name.endswith(".safetensors"):
                with open(os.path.join(place, name), "rb", buffering=0) as file:
                    file.read(int.from_bytes(file.read(8), "little"))
                count += 1
    print(json.dumps({"seconds": time.perf_counter() - started, "files": count}))


def _scan(folder: Path, database: Path) -> None:
    from lib_lora.library import Library
    from lib_lora.library.workers import ENOUGH, MOST

    before, started, busy = memory(), time.perf_counter(), time.process_time()
    library = Library([folder], database=database)
    found = library.refresh()
    told = {"seconds": time.perf_counter() - started, "cpu": time.process_time() - busy, "bytes": memory() - before}
    helped = _workers(MOST) if found.added >= ENOUGH else {}
    told = {name: value + helped.get(name, 0) for name, value in told.items()}
    print(json.dumps({**told, "added": found.added, "broken": found.broken}))


def _workers(most: int) -> dict[str, float]:
    """What the processes that helped with a scan took: seconds of processors, and memory at its peak."""
    if not hasattr(os, "wait4"):
        return {}
    import resource

    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    largest = used.ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    return {"cpu": used.ru_utime + used.ru_stime, "bytes": largest * min(most, os.cpu_count() or 1)}


def _serve(folder: Path, database: Path) -> None:
    started = time.perf_counter()
    import uvicorn
    from fastapi import FastAPI
    from fastapi.responses import HTMLResponse
    from starlette.middleware.gzip import GZipMiddleware

    from lib_lora.browser.markup import head_html, listing_html
    from lib_lora.browser.routes import add_routes
    from lib_lora.library import Library

    imports = time.perf_counter() - started
    app = FastAPI()
    app.add_middleware(GZipMiddleware, minimum_size=10_000)
    add_routes(app, Library([folder], database=database), checkpoint=lambda: "sd1")
    body = f'<textarea id="prompt"></textarea>{listing_html({"prompt": "#prompt"})}'
    page = f'<!doctype html><meta charset="utf-8"><title>Adapters</title>{head_html()}<body>{body}</body>'
    app.add_api_route("/", lambda: HTMLResponse(page))
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)  # asyncio looks for that: NODELAY
    listener.bind(("127.0.0.1", 0))
    listener.listen(128)
    print(json.dumps({"imports": imports, "port": listener.getsockname()[1]}), flush=True)
    uvicorn.Server(uvicorn.Config(app, log_level="error", access_log=False)).run(sockets=[listener])


if __name__ == "__main__":
    {"floor": _floor, "scan": _scan, "serve": _serve}[sys.argv[1]](Path(sys.argv[2]), Path(sys.argv[3]))
