"""PEFT's patterns mean what Python's expressions mean, and take no longer than they are long."""

from __future__ import annotations

import re
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lib_lora.adapters.adapter import read_adapter
from lib_lora.adapters.patterns import PLAIN, Patterns
from lib_lora.errors import AdapterFileError
from tests.adapter_files import write

ONE = st.sampled_from(["a", "b", ".", r"\.", r"\d", r"\w", "[ab]", "[^.]", "[0-3]", "(a|bb)", "(?:ab|1)?"])
EXPRESSIONS = st.lists(st.tuples(ONE, st.sampled_from(["", "", "*", "+", "?"])), min_size=1, max_size=6)
PATHS = st.text(alphabet="ab.01_", max_size=12)


@pytest.mark.parametrize(
    ("pattern", "path", "fits"),
    [
        ("to_q", "down.0.to_q", True),
        ("to_q", "down.0.xto_q", False),
        ("0.to_q", "down.0.to_q", True),
        ("^down.0", "down.0", True),
        ("^0.to_q", "down.0.to_q", False),
        (r"^down\.0\.to_q$", "down.0.to_q", True),
        (r"blocks\.\d+\.(?:q|k)", "mid.blocks.12.k", True),
        (r"blocks\.\d+\.(?:q|k)", "mid.blocks.12.v", False),
        (".*attn.*to_k", "x.attn1.y.to_k", True),
        ("[^.]+", "x.y", True),
        ("(", "(", False),
        ("[z-a]", "z", False),
        ("a{1,99}", "a", False),  # not among the expressions that are understood
    ],
)
def test_a_pattern_fits_the_end_of_a_path_from_a_dot_on(pattern, path, fits):
    assert (Patterns({pattern: 3}).find(path) == 3) is fits


def test_the_first_pattern_that_fits_counts():
    patterns = Patterns({"a.b": 1, ".*b": 2, "b": 3, ".*": 4})
    assert [patterns.find(path) for path in ("x.a.b", "c.b", "b", "c", "")] == [1, 2, 2, 4, 4]
    assert Patterns({"b": 1, ".*b": 2}).find("b") == 1
    assert Patterns({"x": 1}).find("y") is None


@settings(max_examples=400, deadline=None)
@given(parts=EXPRESSIONS, path=PATHS, is_whole=st.booleans())
def test_expressions_mean_what_python_says(parts, path, is_whole):
    pattern = "^" * is_whole + "".join(sign + ("" if sign.endswith(("?", ")")) else many) for sign, many in parts)
    if not PLAIN.fullmatch(pattern):
        assert (Patterns({pattern: 1}).find(path) == 1) is bool(re.match(rf"(.*\.)?({pattern})$", path)), pattern


@pytest.mark.parametrize("pattern", ["(a|a)" * 60 + "z", ".*" * 100 + "z", "a?" * 100 + "a" * 50, "[ab]*" * 60 + "z"])
def test_what_takes_python_for_ever_takes_no_time(pattern):
    start = time.perf_counter()
    for length in range(300):
        Patterns({pattern: 1}).find("a." * (length // 2))
    assert time.perf_counter() - start < 20


def test_thousands_of_patterns_and_modules_are_read_at_once_and_expressions_without_end_are_refused(tmp_path):
    shapes = {f"unet.m{n}.{part}": shape for n in range(2000)
              for part, shape in (("lora_A.weight", (1, 2)), ("lora_B.weight", (2, 1)))}  # fmt: skip
    many = '{"unet.r": 1, "unet.alpha_pattern": {%s}}'
    names = ",".join(f'"m{n}": {n + 1}' for n in range(20_000))
    path = write(tmp_path / "a.safetensors", shapes, {"lora_adapter_metadata": many % names}, fill=60)
    start = time.perf_counter()
    assert read_adapter(path).modules["unet.m7"]["weight"].scale == 8
    assert time.perf_counter() - start < 30
    names = ",".join(f'".*x{n}": 1' for n in range(20_000))
    write(path, shapes, {"lora_adapter_metadata": many % names}, fill=60)
    with pytest.raises(AdapterFileError, match=r"a\.safetensors: 20000 of its patterns are regular expressions"):
        read_adapter(path)
