"""The browser's pure functions, run under Node; the grammar there and here agree on one table of cases."""

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from lib_lora.grammar.curve import Curve
from lib_lora.grammar.scan import without
from lib_lora.grammar.tag import typed_tags

HERE = Path(__file__).parent
CASES = json.loads((HERE / "tag_cases.json").read_text("utf-8"))


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["text"] or "(empty)")
def test_the_table_of_tags_is_what_python_reads(case):
    found = []
    for typed in typed_tags(case["text"]):
        tag = typed.tag
        if tag is None:
            found.append({"name": typed.name, "error": str(typed.error)})
        else:
            optional = {"dyn": tag.dyn, "force": tag.force, "notes": len(tag.notes)}
            needed = {"name": tag.name} | {key: _told(getattr(tag, key)) for key in ("te", "unet")}
            found.append(needed | {key: value for key, value in optional.items() if value})
    assert without(case["text"]) == case.get("rest", without(case["text"]))
    assert found == case["tags"]


def _told(weight):
    return str(weight) if isinstance(weight, Curve) else weight


def test_the_javascript_tests_pass():
    node = shutil.which("node")
    assert node, "The browser code is tested under Node.js: put `node` (18 or newer) on PATH and start again."
    files = sorted(str(path) for path in (HERE / "javascript").glob("*.test.js"))
    done = subprocess.run([node, "--test", *files], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr
