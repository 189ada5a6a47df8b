"""`python -m lib_lora`: the commands."""

import sys

from lib_lora.cli import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
