"""An error at every line and at every torch operation of the engine, one after another: no weight stays wrong.

    python -m tests.long.faults                  everything: some minutes
    python -m tests.long.faults --every 40       every 40th place
    python -m tests.long.faults --twice          a second error while the first is being undone

A story is told to a model: adapters come, change and go. In each run one error is raised at one place of it. After that
the model is cleared, without errors, and must be the untouched one: bits, parameters, hooks and torch's settings. Then
the same adapters must give the weights that they give to a new model.
"""

from __future__ import annotations

import argparse
import contextlib
import logging
import os
import random
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType, SimpleNamespace
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

import lib_lora
from lib_lora.adapters.cache import AdapterCache
from lib_lora.engine.books import Books
from lib_lora.engine.originals import CheckpointFile
from lib_lora.grammar.moment import Moment
from lib_lora.grammar.tag import read_prompt
from lib_lora.grammar.who import Row
from lib_lora.hosts.diffusers import DiffusersHost
from lib_lora.session.session import Session
from lib_lora.session.torch_host import TorchHost
from lib_lora.session.wanted import Wanted
from tests.support import NAMES, Folder, ThreeLayers, bits, kohya_shapes, three_layer_host, twin, write_lora
from tests.test_embeddings import pipeline

ROOT = Path(lib_lora.__file__).parent
FILES = {
    "engine": "activations additions books bypass differences exact fold hooks keeping memory originals parts patch "
              "records regions roots route schedule",
    "hosts": "diffusers embeddings",
    "model": "slots",
    "session": "session torch_host",
}  # fmt: skip
ENGINE = frozenset(str(ROOT / room / f"{name}.py") for room, names in FILES.items() for name in names.split())
ERRORS: tuple[Callable[[], BaseException], ...] = (
    KeyboardInterrupt,
    lambda: MemoryError("no memory"),
    lambda: RuntimeError("CUDA out of memory"),
    lambda: ValueError("nobody has thought of this"),
)
STEPS = 2  # of a picture: all that changes on the way changes between them
STORY = ("<lora:a:1>", "<lora:a:0.3><lora:b:1>", "<lora:c:1>", "")
assert all(map(os.path.isfile, ENGINE)), "where the engine is now"


@dataclass
class Stage:
    """A model, its host, and what it is when nothing is active."""

    make: Callable[[], tuple[TorchHost, list[nn.Module]]]
    folder: Folder
    cache: AdapterCache
    story: tuple[str, ...] = STORY
    prepare: Callable[[TorchHost], None] = lambda host: None
    tell: Callable[[Session, str], None] = field(default=lambda session, prompt: say(session, prompt))
    _expected: dict[str, Any] = field(default_factory=dict)

    def start(self) -> tuple[Session, list[nn.Module]]:
        host, roots = self.make()
        self.prepare(host)
        return Session(host, self.folder, cache=self.cache), roots

    def expected(self, prompt: str) -> Any:
        """The state of a new model with these adapters."""
        if prompt not in self._expected:
            session, roots = self.start()
            self.tell(session, prompt)
            self._expected[prompt] = state(roots)
            session.clear()
        return self._expected[prompt]


def say(session: Session, prompt: str) -> None:
    read = read_prompt(prompt)
    session.activate(read.tags, read.errors)


def say_each(session: Session, prompt: str) -> None:
    """Two pictures, of which the second has other adapters."""
    if prompt:
        session.activate(Wanted((read_prompt(prompt).tags, read_prompt("<lora:b:0.5>").tags)))
    else:
        session.clear()


def say_slowly(session: Session, prompt: str) -> None:
    """Weights that change on the way, for one side of the guidance too, as in a picture of two steps."""
    window = prompt.replace(":1>", ":0@0,1@1:te=1:stop=0.6>")
    session.activate(Wanted((read_prompt(window).tags,), (read_prompt("<lora:b:0.5:start=0.5>" * bool(prompt)).tags,)))
    for side in ("cond", "uncond"):
        for _, encoding in session.segments(Row(0, side), STEPS):
            with session.encode(encoding):
                pass
    for step in range(STEPS):
        session.advance(Moment(step, STEPS, float(STEPS - step)))
        session.rows([Row(0, "uncond"), Row(0)])


def state(roots: list[nn.Module]) -> Any:
    """Everything that an adapter could leave behind."""
    hooks = sum(len(module._forward_hooks) + len(module._forward_pre_hooks)
                for root in roots for module in root.modules())  # fmt: skip
    return (bits(roots), hooks, torch.is_grad_enabled(), torch.get_float32_matmul_precision(),
            torch.is_inference_mode_enabled())  # fmt: skip


@contextlib.contextmanager
def failing_line(places: set[int], make_error: Callable[[], BaseException]) -> Iterator[list[int]]:
    """Raise at the lines of the engine with these numbers, in the order in which they are reached."""
    reached = [0]

    def trace(frame: FrameType, event: str, arg: Any) -> Any:
        if frame.f_code.co_filename not in ENGINE:
            return None
        if event == "line":
            reached[0] += 1
            if reached[0] in places:
                raise make_error()
        return trace

    undo = Books.undo

    def traced(self: Books, keys: Any) -> None:
        sys.settrace(trace)  # Python switches tracing off when a tracer raises
        undo(self, keys)

    Books.undo = traced  # type: ignore[method-assign]
    sys.settrace(trace)
    try:
        yield reached
    finally:
        sys.settrace(None)
        Books.undo = undo  # type: ignore[method-assign]


class FailingOperation(TorchDispatchMode):
    """Raise at the operations of torch with these numbers."""

    def __init__(self, places: set[int], make_error: Callable[[], BaseException]) -> None:
        super().__init__()
        self.places, self.make_error, self.reached = places, make_error, [0]

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.reached[0] += 1
        if self.reached[0] in self.places:
            raise self.make_error()
        return func(*args, **(kwargs or {}))


@contextlib.contextmanager
def failing_operation(places: set[int], make_error: Callable[[], BaseException]) -> Iterator[list[int]]:
    with FailingOperation(places, make_error) as mode:
        yield mode.reached


WAYS = {"line": failing_line, "operation": failing_operation}


def run(stage: Stage, way: str, places: set[int], make_error: Callable[[], BaseException]) -> list[str]:
    """Tell the story with an error at `places`; returns what is wrong afterwards."""
    session, roots = stage.start()
    before = state(roots)
    # Whatever comes out: of that the user is told elsewhere, here the question is what it leaves behind.
    with contextlib.suppress(BaseException), WAYS[way](places, make_error):
        for prompt in stage.story:
            stage.tell(session, prompt)
    session.clear()
    wrong = ["not untouched after clear"] if state(roots) != before else []
    for prompt in stage.story[1::2]:
        stage.tell(session, prompt)
        if session.report.sentences():
            wrong.append(f"{prompt}: {session.report.sentences()}")
        if state(roots) != stage.expected(prompt):
            wrong.append(f"{prompt!r} gives other weights than on a new model")
    session.clear()
    if state(roots) != before:
        wrong.append("not untouched at the end")
    return wrong


def count(stage: Stage, way: str) -> int:
    """The places in the story."""
    session, _ = stage.start()
    with WAYS[way](set(), ERRORS[0]) as reached:
        for prompt in stage.story:
            stage.tell(session, prompt)
    return reached[0]


def stages(folder: Path) -> dict[str, Stage]:
    """Every way in which a weight can be changed and kept."""
    torch.manual_seed(0)
    first = ThreeLayers()
    shapes = kohya_shapes(three_layer_host(first).targets())
    write_lora(folder / "a.safetensors", shapes, seed=1)
    write_lora(folder / "b.safetensors", shapes, seed=2, rank=3)
    name = next(name for name in shapes if "to_q" in name)
    save_file({f"{name}.diff_b": torch.ones(8), f"{name}.diff": torch.ones(8, 8)}, folder / "c.safetensors")
    file = folder / "checkpoint.safetensors"
    save_file({key: tensor.clone() for key, tensor in first.state_dict().items()}, file)
    keys = {f"model.diffusion_model.{NAMES[path]}.{part}": f"{path}.{part}"
            for path, _, part in (key.rpartition(".") for key in first.state_dict())}  # fmt: skip

    def three_layers() -> tuple[TorchHost, list[nn.Module]]:
        model = ThreeLayers()
        model.load_state_dict(first.state_dict())
        return three_layer_host(model), [model]

    def tied() -> tuple[TorchHost, list[nn.Module]]:
        host, (model,) = three_layers()
        block: Any = model.block
        block.conv.bias = block.norm.bias  # two layers, one Parameter
        return host, [model]

    def keep(policy: str) -> Callable[[TorchHost], None]:
        def prepare(host: TorchHost) -> None:
            host.patcher.keep = policy  # type: ignore[assignment]
            host.patcher.find_checkpoint = lambda: CheckpointFile({key: [(file, name)] for key, name in keys.items()})
        return prepare

    def bypass(host: TorchHost) -> None:
        host.patcher.bypass_all = True

    finder, cache = Folder(folder), AdapterCache()
    save_file({part: tensor for key, shape in shapes.items() for part, tensor in
               {f"{key}.diff_b": torch.ones(8), f"{key}.diff": torch.ones(shape)}.items()},
              folder / "bias.safetensors")  # fmt: skip
    made = {f"kept on the {policy}": Stage(three_layers, finder, cache, prepare=keep(policy))
            for policy in ("device", "cpu", "checkpoint")}  # fmt: skip
    made["beside the weights"] = Stage(three_layers, finder, cache, (*STORY[:-1], "<lora:a:1><lora:c:0.5>", ""), bypass)
    made["a batch"] = Stage(three_layers, finder, cache, tell=say_each)
    made["over time"] = Stage(three_layers, finder, cache, tell=say_slowly)
    made["tied"] = Stage(tied, finder, cache, story=("<lora:bias:1>", "<lora:bias:0.5><lora:b:1>", "<lora:b:1>", ""))
    made["words"] = words(folder / "words")
    return made


def words(folder: Path) -> Stage:
    """A pipeline whose prompts know more words while an adapter is active."""
    folder.mkdir()
    first = pipeline(folder)
    shapes = kohya_shapes(DiffusersHost(first).targets(), limit=4)
    for seed, name in enumerate("ab"):
        path = write_lora(folder / f"{name}.safetensors", shapes, seed=seed)
        save_file({**load_file(path), f"bundle_emb.word{name}.string_to_param.*": torch.ones(2, 12)}, path)

    def copied() -> tuple[TorchHost, list[nn.Module]]:
        unet, encoder = twin(first.unet), twin(first.text_encoder)
        pipe = SimpleNamespace(unet=unet, text_encoder=encoder, tokenizer=first.tokenizer)
        return DiffusersHost(pipe), [unet, encoder]

    return Stage(copied, Folder(folder), AdapterCache(), story=("<lora:a:1>", "<lora:b:0.5>", ""))


def main(argv: list[str] | None = None) -> int:
    """Returns the number of wrong runs, at most 1."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--every", type=int, default=1)
    parser.add_argument("--twice", action="store_true")
    parser.add_argument("--only", default="", help="part of the name of a stage")
    options = parser.parse_args(argv)
    torch.set_num_threads(1)
    logging.getLogger("lib_lora").setLevel(logging.CRITICAL)
    chance = random.Random(0)
    total = failed = 0
    with tempfile.TemporaryDirectory() as folder:
        for name, stage in stages(Path(folder)).items():
            if options.only not in name:
                continue
            for way in WAYS:
                places, runs, wrong = count(stage, way), 0, 0
                for place in range(1, places + 1, options.every):
                    for error in ERRORS:
                        also = {place + chance.randint(1, 60)} if options.twice else set()
                        found = run(stage, way, {place} | also, error)
                        runs += 1
                        if found:
                            wrong += 1
                            print(f"  {name}, {way} {place} {sorted(also)} {error()!r}: {found}", flush=True)
                print(f"{name}: {runs} runs, an error at each {way} ({places} places): {wrong} wrong", flush=True)
                total, failed = total + runs, failed + wrong
    print(f"{total} runs, {failed} wrong")
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
