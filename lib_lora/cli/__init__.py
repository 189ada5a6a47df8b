"""The commands: generate, list, info, merge, sheet, demo. `main(argv) -> int` is the exit code.

    0    done
    1    failed, or done without some of the adapters; stderr says why, one line each: `lib_lora: sentence`
    2    the command line cannot be understood
    130  Ctrl-C;  141  the reader of the output is gone

Standard output carries results only. Each command imports what it needs when it runs: `list` and `info` need no torch.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

from lib_lora.cli.parser import make_parser
from lib_lora.cli.terminal import complain
from lib_lora.errors import LoraError

NEEDS = "{} is not installed; this command needs it: `python install.py demo`, or `pip install 'lib-lora[demo]'`"


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command. Never raises for what a user can do wrong."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # a name that the terminal cannot show is no reason to fail
            stream.reconfigure(errors="backslashreplace")
    try:
        options = make_parser().parse_args(argv)
        code = options.run(options)
        sys.stdout.flush()
        return code
    except SystemExit as exit_:  # argparse: --help, --version, wrong usage
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
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # else the interpreter complains when it ends
        return 141
    except OSError as error:
        complain(f"{error.filename}: {error.strerror}" if error.filename else str(error))
        return 1
    except MemoryError:
        complain("not enough memory")
        return 1
