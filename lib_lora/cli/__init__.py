"""The commands: generate, list, info, merge, sheet, compare, grammar, demo. `main(argv) -> int` is the exit code.

    0    done
    1    failed, or done without some of the adapters; stderr says why, one line each: `lib_lora: sentence`
    2    the command line cannot be understood
    130  Ctrl-C;  141  the reader of the output is gone;  129, 143  the terminal closed, or the system ended it

Standard output carries results only. Each command imports what it needs when it runs: `list` and `info` need no torch.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from typing import Any

from lib_lora.cli.parser import make_parser
from lib_lora.cli.terminal import complain, warnings_told
from lib_lora.errors import LoraError

NEEDS = "{} is not installed; this command needs it: `python install.py demo`, or `pip install 'lib-lora[demo]'`"


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command. Never raises for what a user can do wrong."""
    _prepare_streams()
    with _ends_tidily(), warnings_told():
        code = _run(argv)
    return _flushed(code)


def _run(argv: Sequence[str] | None) -> int:
    try:
        options = make_parser().parse_args(argv)
        code: int = options.run(options)
        sys.stdout.flush()
        return code
    except SystemExit as exit_:  # argparse: --help, --version, wrong usage; a signal
        return exit_.code if isinstance(exit_.code, int) else 2
    except LoraError as error:
        complain(str(error))
        return 1
    except ModuleNotFoundError as error:
        complain(NEEDS.format(error.name))
        return 1
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        return 141
    except OSError as error:
        complain(f"{error.filename}: {error.strerror}" if error.filename else str(error))
        return 1
    except MemoryError:
        complain("not enough memory")
        return 1


def _prepare_streams() -> None:
    """A name that the terminal cannot show is no reason to fail, nor is a stream that is closed."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, open(os.devnull, "w"))  # noqa: SIM115
        elif hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")


def _flushed(code: int) -> int:
    """`code`, or another if the output did not arrive; nothing is left for the interpreter to complain about."""
    for stream, number in ((sys.stdout, 1), (sys.stderr, 2)):
        try:
            stream.flush()
        except BrokenPipeError:
            code = 141
        except OSError as error:
            code = code or 1
            if number == 1:
                complain(f"standard output: {error.strerror}")
        except ValueError:  # closed
            continue
        else:
            continue
        with contextlib.suppress(OSError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), number)
    return code


@contextlib.contextmanager
def _ends_tidily() -> Iterator[None]:
    """The system's wish to end is an exception, as Ctrl-C is: what was begun is cleared away."""

    def end(number: int, _frame: object) -> None:
        for each in before:  # a second one would break off the clearing away
            signal.signal(each, signal.SIG_IGN)
        raise SystemExit(128 + number)

    before: dict[int, Any] = {}
    is_main = threading.current_thread() is threading.main_thread()
    numbers = [getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name) and is_main]
    for number in numbers:
        if signal.getsignal(number) == signal.SIG_DFL:  # `nohup` has it ignored
            before[number] = signal.signal(number, end)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
