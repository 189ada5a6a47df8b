"""The examples in the docstrings of what strangers extend are true."""

from __future__ import annotations

import doctest
import io
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import Tensor

from lib_lora import keys
from lib_lora.algorithms import base
from lib_lora.compare import runner
from lib_lora.compare.grid import Grid
from lib_lora.compare.runner import Drawn, Ground
from lib_lora.compare.subject import Subject
from lib_lora.engine.fold import fold
from lib_lora.engine.plan import Plan
from lib_lora.grammar.tag import read_prompt
from lib_lora.library import Library
from lib_lora.model.targets import TargetIndex, index_checkpoint
from lib_lora.session import host
from lib_lora.session.session import Session
from tests.support import write_lora

USED = (torch, load_file, Tensor, fold, Plan, read_prompt, Library, TargetIndex, index_checkpoint, Session, Path)
RUNNERS = (Drawn, Grid, Ground, Path, Subject)
EXAMPLES = {
    "an algorithm": (base.Delta, vars(base)),
    "a spelling": (keys, vars(keys)),
    "a runner": (runner.Runner, {"io": io, "Image": Image} | {each.__name__: each for each in RUNNERS}),
    "a host": (host.Host, {each.__name__: each for each in USED}),
}


@pytest.mark.parametrize("what", EXAMPLES)
def test_the_example_is_true(what, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("loras").mkdir()
    key = "model.diffusion_model.input_blocks.1.1.proj_in.weight"
    save_file({key: torch.zeros(8, 8), key.replace("proj_in", "norm"): torch.ones(8)}, "model.safetensors")
    write_lora(Path("loras/ink.safetensors"), {"lora_unet_down_blocks_0_attentions_0_proj_in": (8, 8)})
    explained, names = EXAMPLES[what]
    finder = doctest.DocTestFinder(recurse=False)
    (example,) = finder.find(explained, what, globs=dict(names))
    assert example.examples
    printed: list[str] = []
    failed, _ = doctest.DocTestRunner().run(example, out=printed.append)
    assert not failed, "".join(printed)
