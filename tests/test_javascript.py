"""The browser's pure functions, run under Node; the grammar there and here agree on one table of cases."""

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from lib_lora.errors import TagError
from lib_lora.tag import TAG, read_tag

HERE = Path(__file__).parent
CASES = json.loads((HERE / "tag_cases.json").read_text("utf-8"))


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["text"] or "(empty)")
def test_the_table_of_tags_is_what_python_reads(case):
    found = []
    for match in TAG.finditer(case["text"]):
        try:
            tag = read_tag(match[1])
        except TagError as error:
            found.append({"name": match[1].split(":")[0].strip(), "error": str(error)})
        else:
            optional = {"dyn": tag.dyn, "force": tag.force, "notes": len(tag.notes)}
            needed = {"name": tag.name, "te": tag.te, "unet": tag.unet}
            found.append(needed | {key: value for key, value in optional.items() if value})
    assert found == case["tags"]


def test_the_javascript_tests_pass():
    node = shutil.which("node")
    assert node, "The browser code is tested under Node.js: put `node` (18 or newer) on PATH and start again."
    files = sorted(str(path) for path in (HERE / "javascript").glob("*.test.js"))
    done = subprocess.run([node, "--test", *files], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr
