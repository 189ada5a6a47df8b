"""`python -m tests.webui.checkpoints NAME FOLDER`"""

import sys
from pathlib import Path

from tests.webui.checkpoints import RECIPES, write_checkpoint

name, folder = sys.argv[1:]
print(write_checkpoint(Path(folder) / f"{name}.safetensors", RECIPES[name]))
