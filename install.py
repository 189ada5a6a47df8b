"""From a clone to a running program, with nothing but Python 3.10.

    python install.py                      started so by the WebUI: says what is missing, installs nothing
    python install.py demo [options...]    installs what is missing, opens the page   (options: of the page)
    python install.py test [options...]    installs what is missing, runs the suite   (options: of pytest,
                                           which then runs in one process)

A Python that has everything is used as it is. Otherwise everything goes into `.venv` in this folder, once.
"""

import sys

if sys.version_info < (3, 10):  # noqa: UP036  (an older Python must get this far: no newer syntax in this file)
    sys.exit("lib_lora needs Python 3.10 or newer; this is %d.%d." % sys.version_info[:2])  # noqa: UP031

import hashlib
import importlib
import importlib.metadata
import importlib.util
import operator
import os
import re
import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parent
VENV = ROOT / ".venv"
PYTHON = VENV / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
LOG = VENV / "install.log"

USED_IN_WEBUI = ("torch", "safetensors", "numpy", "gradio")
INCLUDES = {"demo": ("demo",), "test": ("test", "demo")}  # who has the packages of the one has those of the others
COMPARE = {">=": operator.ge, "<": operator.lt, "==": operator.eq}
CPU_TORCH = "torch==2.13.0"
NEWER_PIP = "pip"
QUICK_PIP = (25,)  # the first pip that finds in seconds what fits; those that Pythons bring take half a minute more
HAS_TORCH = "import importlib.metadata as m; m.version('torch')"  # pip writes that last: no half torch
ENSUREPIP = "This Python cannot make environments. On Debian and Ubuntu: apt install python3-venv"
ADVICE = {  # what the log of a failed step says -> what to do
    r"No space left|Errno 28|not enough space": "The disk is full. About 3 GB are needed, 10 GB with CUDA.",
    r"ProxyError|CERTIFICATE_VERIFY": "pip does not get through the proxy. Set HTTPS_PROXY, or pip's option `cert`.",
    r"ConnectionError|NewConnection|name resolution|timed out": "No network? What is there stays; start again.",
    r"No matching distribution|ResolutionImpossible": "pip offers no fitting version to this Python; try Python 3.11.",
    r"ensurepip": ENSUREPIP,
}
SHELL = "chromium-headless-shell"  # Debian's Chromium without windows: a fifth less work for the same pages
CHROMIUM = (
    SHELL,
    "chromium",
    "chromium-browser",
    "google-chrome",
    "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome",
    r"C:\Program Files\Google\Chrome\Application\chrome.exe",
    r"C:\Program Files (x86)\Microsoft\Edge\Application\msedge.exe",
)
PLAYWRIGHTS = "from playwright.sync_api import sync_playwright as s\nwith s() as p: print(p.chromium.executable_path)"


# What is needed, and what is there


def requirements(extra: str) -> list[str]:
    """The core dependencies and those of `extra`, as pyproject.toml has them (Python 3.10 reads no TOML)."""
    text = (ROOT / "pyproject.toml").read_text("utf-8")
    lists = [re.search(rf"^{name} = \[\n(.*?)^\]", text, re.M | re.S) for name in ("dependencies", *INCLUDES[extra])]
    found = [name for block in lists if block for name in re.findall(r'^ *"([^"]+)"', block[1], re.M)]
    return [name for name in found if not name.startswith("lib-lora")]


def satisfied(requirement: str) -> bool:
    """Is it installed in this Python, in a version within the bounds?"""
    try:
        version = numbers(importlib.metadata.version(distribution(requirement)))
    except importlib.metadata.PackageNotFoundError:
        return False
    bounds = re.findall(r"(>=|<|==)([\d.]+)", requirement)
    return all(COMPARE[sign](version, numbers(bound)) for sign, bound in bounds)


def distribution(requirement: str) -> str:
    return re.split(r"[<>=]", requirement)[0]


def numbers(version: str) -> tuple[int, ...]:
    """2.13.0+cpu -> (2, 13, 0)"""
    return tuple(map(int, re.findall(r"\d+", re.split(r"[^\d.]", version)[0])))


def stamp(extra: str) -> Path:
    """The file that says for which lists of packages, and which Python, `.venv` was made ready."""
    return VENV / f"lib_lora-{extra}.stamp"


def fingerprint(extra: str) -> str:
    made_with = (VENV / "pyvenv.cfg").read_text("utf-8")
    return hashlib.sha256("\n".join([str(ROOT), made_with, *requirements(extra)]).encode()).hexdigest()


def is_ready(extra: str) -> bool:
    return PYTHON.exists() and stamp(extra).exists() and stamp(extra).read_text() == fingerprint(extra)


# Installing


def environment(extra: str) -> str:
    """The Python that has everything for `extra`; made now if there is none."""
    if all(map(satisfied, requirements(extra))):
        return sys.executable
    if not is_ready(extra):
        build(extra)
    return str(PYTHON)


def build(extra: str) -> None:
    """Bring `.venv` to what pyproject.toml says; a torch that is in it, or in this Python, is kept."""
    if not answers(PYTHON, "-c", "import sys; sys.exit(sys.version_info < (3, 10))"):
        shutil.rmtree(VENV, ignore_errors=True)  # half made, or its Python is gone
    is_new = not answers(PYTHON, "-m", "pip", "--version")
    shares_torch = is_new and sys.prefix == sys.base_prefix and satisfied(requirements(extra)[0])
    pip = [str(PYTHON), "-m", "pip", "install", "--no-input", "--disable-pip-version-check", "--progress-bar=off"]
    if not sys.dont_write_bytecode:
        pip.append("--no-compile")  # Python compiles what it imports; compiling all takes as long as installing
    steps = {}
    if is_new:
        if not importlib.util.find_spec("ensurepip"):
            sys.exit(ENSUREPIP)
        options = ["--system-site-packages"] if shares_torch else []
        steps["environment"] = [sys.executable, "-m", "venv", *options, str(VENV)]
        if numbers(importlib.import_module("ensurepip").version()) < QUICK_PIP:
            steps[NEWER_PIP] = [*pip, "--upgrade", "pip"]
    if not shares_torch and not answers(PYTHON, "-c", HAS_TORCH):
        steps[wanted_torch()] = [*pip, wanted_torch()]
    steps[", ".join(map(distribution, requirements(extra)[1:]))] = [*pip, "-e", f"{ROOT}[{extra}]"]
    print(f"Preparing {VENV}, only now and when the list of packages changes.")
    if CPU_TORCH in steps:
        print("No NVIDIA card here. If pip fetches gigabytes of CUDA: Ctrl-C, put a CPU torch into .venv, start again.")
    for number, (title, command) in enumerate(steps.items(), 1):
        step(f"[{number}/{len(steps)}] {title}", *command, is_needed=title != NEWER_PIP)
    for included in INCLUDES[extra]:
        stamp(included).write_text(fingerprint(included))


def wanted_torch() -> str:
    has_nvidia = shutil.which("nvidia-smi") or Path("/proc/driver/nvidia").exists()
    return CPU_TORCH if sys.platform == "linux" and not has_nvidia else requirements("demo")[0]


def step(title: str, *command: str, is_needed: bool = True) -> None:
    """Run a command, its output in the log and its progress on one line. If it fails, so does a program that needs it.
    """
    VENV.mkdir(exist_ok=True)
    start = time.monotonic()
    on_screen = sys.stdout.isatty()
    print(title, end="\r" if on_screen else " ", flush=True)
    with LOG.open("w", encoding="utf-8") as log:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=child_env())
        try:
            while process.poll() is None:
                time.sleep(0.2)
                if on_screen:
                    show(f"{title}   {time.monotonic() - start:.0f} s   {last_lines(1)}")
        finally:  # Ctrl-C; otherwise it has ended already
            process.terminate()
            process.wait()
    if on_screen:
        show(title)
    print(f"  {time.monotonic() - start:.0f} s", flush=True)
    if process.returncode and is_needed:
        advice = [words for signs, words in ADVICE.items() if re.search(signs, last_lines(1000))][:1]
        sys.exit("\n".join([last_lines(15), "", f"Failed: {title}", *advice, f"The whole log: {LOG}"]))


def show(line: str) -> None:
    print(f"\r\033[K{line[: shutil.get_terminal_size().columns - 12]}", end="", flush=True)


def last_lines(count: int) -> str:
    return "\n".join(LOG.read_text("utf-8", errors="replace").splitlines()[-count:]).strip()


def answers(program: "str | Path", *arguments: str) -> bool:
    """Does the program start and end well?"""
    try:
        return subprocess.run([program, *arguments], capture_output=True, timeout=120).returncode == 0
    except (OSError, subprocess.TimeoutExpired):
        return False


def chromium(python: str) -> str:
    """The path of a Chromium; installed if there is none."""
    ways: list[Callable[[], object]] = [
        lambda: None, chromium_by_apt, lambda: ask(python, "-m", "playwright", "install", "chromium")
    ]  # fmt: skip
    for way in ways:
        way()
        own = subprocess.run([python, "-c", PLAYWRIGHTS], capture_output=True, text=True).stdout.strip()
        path = first_that_starts(*CHROMIUM, own)
        if path:
            return path
    sys.exit("The browser tests need Chromium or Google Chrome on PATH. Install it and start again.")


def chromium_by_apt() -> None:
    """Where there is none and apt-get listens to us. The light one is not fetched where another is there: that would
    take as long as it saves.
    """
    if not shutil.which("apt-get") or os.geteuid() != 0 or first_that_starts(*CHROMIUM):
        return
    ask("apt-get", "update")
    ask("apt-get", "install", "--yes", SHELL)
    if not first_that_starts(*CHROMIUM):  # Ubuntu has no light one
        ask("apt-get", "install", "--yes", "chromium")


def ask(*command: str) -> None:
    """For a browser; whether it is there then is another question."""
    print("Chromium for the browser tests:", *command, flush=True)
    subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, env=child_env())


def first_that_starts(*names: str) -> "str | None":
    for path in filter(None, map(shutil.which, names)):
        if os.name == "nt" or answers(path, "--version"):  # Ubuntu has a stub; Windows would open a window
            return path
    return None


# Running


def child_env(**more: str) -> dict[str, str]:
    return {**os.environ, "PYTHONUNBUFFERED": "1", "DEBIAN_FRONTEND": "noninteractive", **more}


def import_path() -> str:
    return os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))


def demo(options: list[str]) -> int:
    command = [environment("demo"), "-m", "lib_lora", "demo", *options]
    if os.name == "nt":
        return run(command)
    sys.stdout.flush()
    os.execve(command[0], command, child_env(PYTHONPATH=import_path()))  # the page is this process: signals reach it


def test(options: list[str]) -> int:
    """Every check, whatever another says; pytest's summary comes last. The whole suite runs on several cores, and mypy
    says what it has to say while pytest runs.
    """
    python = environment("test")
    browser = chromium(python)
    os.chdir(ROOT)
    checks = (["ruff", "check", "--output-format=concise", "."], ["mypy"], ["pytest", *(options or side_by_side())])
    ruff, mypy, pytest = ([python, "-m", *check] for check in checks)
    codes = {"ruff": run(ruff)}
    beside = start(mypy)
    codes["pytest"] = run(pytest, LIB_LORA_CHROMIUM=browser)
    codes["mypy"] = ended(beside)
    failed = [name for name, code in codes.items() if code]
    if failed:
        print("Failed:", ", ".join(failed), flush=True)
    return codes[failed[0]] if failed else 0


def side_by_side() -> list[str]:
    """Options of pytest: a process for every core, and one for while the others wait for a browser; 1 GB each.

    Each takes whole files, since their tests share what is made once, in the order of tests/processes.py.
    """
    cores = os.cpu_count() or 1
    return [f"-n{min(cores + 1, 4)}", "--dist=loadfile", "--no-loadscope-reorder"] if cores > 1 else []


def run(command: list[str], **env: str) -> int:
    return ended(start(command, **env))


def start(command: list[str], **env: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(command, env=child_env(PYTHONPATH=import_path(), **env))


def ended(process: subprocess.Popen[bytes]) -> int:
    try:
        return process.wait()
    except KeyboardInterrupt:  # the terminal has told the child too: it ends in its own time
        return process.wait()


def check() -> int:
    missing = [name for name in USED_IN_WEBUI if not importlib.util.find_spec(name)]
    if missing:
        print(f"lib_lora: {sys.executable} cannot import {', '.join(missing)}.")
        print("They belong to the WebUI: delete its `venv` folder and start it again.")
        print("Without a WebUI: python install.py demo")
    elif not importlib.util.find_spec("launch"):  # by hand
        print("The WebUI extension finds all it needs.", __doc__, sep="\n\n")
    return 0


def main(arguments: list[str]) -> int:
    if not arguments:
        return check()
    command, *options = arguments
    if command in ("demo", "test"):
        return demo(options) if command == "demo" else test(options)
    if command in ("-h", "--help"):
        print(__doc__)
        return 0
    print(f"install.py: '{command}' is neither demo nor test\n\n{__doc__}", file=sys.stderr)
    return 2


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except KeyboardInterrupt:
        print("\nStopped. The next start goes on from here.", file=sys.stderr)
        sys.exit(130)
    except OSError as error:
        sys.exit(f"install.py: {error}")
