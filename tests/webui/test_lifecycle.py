"""What the WebUI does to its models while adapters are active: the next picture is that of a fresh start.

A WebUI with this extension and one without go through the same, in each of the ways to hold weights. Without tags both
draw the same picture from the same bits; with tags the picture is the one that a new model draws first.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from tests.webui.instance import FULL, Drawn, WebUI, difference

PROMPT = "a red circle, a cat"
FIRST, SAME_KIND, OTHER_FAMILY = "tiny-sd1", "other-sd1", "tiny-sdxl"
HALF = "--precision full --no-half-vae"
KINDS: dict[str, dict[str, Any]] = {
    "no half": {},
    "half": {"flags": HALF, "probe": "moves copy,cast", "options": {"lora_originals": "checkpoint"}},
    "fp8": {"options": {"fp8_storage": "Enable", "cache_fp16_weight": True}},
    "low VRAM": {"flags": f"{FULL} --lowvram", "options": {"lora_originals": "cpu"}},
    "medium VRAM, half, channels last": {
        "flags": f"{HALF} --medvram --opt-channelslast", "probe": "moves copy,cast",
        "options": {"lora_originals": "checkpoint"},
    },
}
SEVERAL = list(KINDS)[:2]  # in which what costs time is tried too


@dataclass
class Look:
    """One picture, and the weights after it."""

    drawn: Drawn
    weights: dict[str, Any]

    def is_same(self, other: Look) -> bool:
        return difference(self.drawn.picture, other.drawn.picture) == 0 and self.bits == other.bits

    @property
    def bits(self) -> int:
        return self.weights["bits"]


@dataclass
class Pair:
    """The WebUI with this extension, the one without, and what new models draw first with tags."""

    ours: WebUI
    plain: WebUI
    fresh: dict[str, Look] = field(default_factory=dict)
    varying: list[np.ndarray] = field(default_factory=list)  # what ours draws undisturbed of VARYING
    checkpoint: str = FIRST

    def both(self, path: str, payload: Any) -> None:
        for webui in (self.ours, self.plain):
            webui.request(path, payload)

    def options(self, **options: Any) -> None:
        self.both("/sdapi/v1/options", options)

    def switch(self, checkpoint: str) -> None:
        self.options(sd_model_checkpoint=checkpoint)
        self.checkpoint = checkpoint
        for webui in (self.ours, self.plain):
            assert webui.request("/probe/weights")["checkpoint"] == checkpoint

    def tags(self, weight: float = 0.8) -> str:
        return f"{PROMPT} <lora:{'sdxl' if 'xl' in self.checkpoint else 'sd1'}:{weight}>"

    def tagged(self, **options: Any) -> Look:
        return look(self.ours, self.tags(), **options)

    def is_clean(self, **options: Any) -> bool:
        """Without tags: picture and weights are those of the WebUI without us."""
        ours, plain = (look(webui, PROMPT, **options) for webui in (self.ours, self.plain))
        return ours.is_same(plain) and ours.weights == plain.weights

    def is_as_fresh(self) -> bool:
        """With tags."""
        now = self.tagged()
        return now.is_same(self.fresh[self.checkpoint]) and "problems" not in now.drawn.text

    def forget_models(self) -> None:
        self.both("/probe/forget-models", {})


def look(webui: WebUI, prompt: str, **options: Any) -> Look:
    drawn = webui.draw(prompt, **options)
    return Look(drawn, webui.request("/probe/weights"))


@pytest.fixture(scope="module")
def models(checkpoints: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The checkpoints; two of them have one configuration between them, so that the WebUI keeps the modules."""
    folder = tmp_path_factory.mktemp("models")
    for name in (f"{FIRST}.safetensors", f"{FIRST}.yaml", f"{SAME_KIND}.safetensors",
                 f"{OTHER_FAMILY}.safetensors", f"{OTHER_FAMILY}.yaml"):
        os.link(checkpoints / name, folder / name)
    return folder


@pytest.fixture(scope="module")
def start(models: Path, adapters: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., WebUI]:
    """Launches a WebUI of one kind; not waited for."""

    def launch(kind: str, **options: Any) -> WebUI:
        settings = {"probe": "moves copy", **KINDS[kind], **options}
        webui = WebUI(tmp_path_factory.mktemp("life"), models, **settings)
        shutil.copytree(adapters, webui.loras, dirs_exist_ok=True)
        write_vae(models / f"{FIRST}.safetensors", webui.data / "models" / "VAE" / "other.safetensors")
        webui.launch()
        return webui

    return launch


@pytest.fixture(scope="module", params=KINDS)
def started(request: pytest.FixtureRequest, start: Callable[..., WebUI]) -> Iterator[Pair]:
    webuis = [start(request.param), start(request.param, extension=False)]
    try:
        pair = Pair(*(webui.wait() for webui in webuis))
        if request.param == "fp8":
            pair.forget_models()  # the WebUI rounds its noise schedule in every load but the first
        pair.fresh[FIRST] = pair.tagged()  # the first picture after the start
        for name in (SAME_KIND, OTHER_FAMILY):
            pair.switch(name)
            pair.forget_models()
            pair.fresh[name] = pair.tagged()
            assert difference(pair.fresh[name].drawn.picture, pair.plain.draw(PROMPT).picture) > 8
        pair.switch(FIRST)
        yield pair
    finally:
        for webui in webuis:
            webui.stop()


@pytest.fixture
def pair(started: Pair) -> Iterator[Pair]:
    yield started
    started.options(sd_vae="Automatic", sd_checkpoint_cache=0, sd_checkpoints_limit=1)
    started.switch(FIRST)


def write_vae(checkpoint: Path, path: Path) -> None:
    """Another decoder: that of the checkpoint with a few values changed."""
    parts = load_file(checkpoint)
    vae = {key.removeprefix("first_stage_model."): np.roll(value, 1) if "decoder.conv_in" in key else value
           for key, value in parts.items() if key.startswith("first_stage_model.")}
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file(vae, path)


several = pytest.mark.parametrize("started", SEVERAL, indirect=True, scope="module")


def test_the_weights_are_held_as_this_kind_says(pair, request):
    kind = request.node.callspec.params["started"]
    seen = pair.ours.request("/probe/weights")
    assert seen["low VRAM"] == ("VRAM" in kind)
    assert seen["channels last"] == ("channels last" in kind)
    assert (seen["finer copies"] > 0) == (kind == "fp8")
    assert ("torch.float16" in seen["types"]) == ("half" in kind.replace("no half", ""))
    assert ("torch.float8_e4m3fn" in seen["types"]) == (kind == "fp8")


def test_without_tags_nothing_is_there_and_with_tags_always_the_same(pair):
    assert pair.is_as_fresh()
    assert pair.is_clean()
    assert difference(pair.fresh[FIRST].drawn.picture, pair.plain.draw(PROMPT).picture) > 8
    for tags in ("<lora:second:1>", "<lora:sd1:-1><lora:second:0.3>", "<lora:sd1:0.3:0>"):
        pair.ours.draw(f"{PROMPT} {tags}")
        assert pair.is_as_fresh()
    assert pair.is_clean()


def send_away_and_back(pair: Pair) -> None:
    pair.both("/sdapi/v1/unload-checkpoint", {})
    pair.both("/sdapi/v1/reload-checkpoint", {})


def load_the_same_again(pair: Pair) -> None:
    """This option makes the WebUI load the weights of the file into the same modules."""
    before = pair.ours.request("/sdapi/v1/options")["cache_fp16_weight"]
    for value in (not before, before):
        pair.options(cache_fp16_weight=value)


def visit(checkpoint: str) -> Callable[[Pair], None]:
    def there_and_back(pair: Pair) -> None:
        pair.switch(checkpoint)
        pair.switch(FIRST)

    return there_and_back


def load_another_vae_and_back(pair: Pair) -> None:
    for name in ("other.safetensors", "Automatic"):
        pair.options(sd_vae=name)


def compute_attention_otherwise(pair: Pair) -> None:
    for name in ("Doggettx", "Automatic"):
        pair.options(cross_attention_optimization=name)


EVENTS = {
    "sent away and back": send_away_and_back,
    "loaded again": load_the_same_again,
    "another checkpoint in the same modules": visit(SAME_KIND),
    "another family": visit(OTHER_FAMILY),
    "another VAE": load_another_vae_and_back,
    "another attention": compute_attention_otherwise,
}


@pytest.mark.parametrize("event", EVENTS)
def test_what_happens_between_two_pictures_leaves_no_trace(pair, event):
    for is_good in (pair.is_clean, pair.is_as_fresh):
        pair.tagged()
        EVENTS[event](pair)
        assert is_good(), is_good.__name__


def test_the_decoder_is_exchanged_while_adapters_are_active(pair):
    """The weights that carry them are untouched by that."""
    pair.tagged()
    pair.options(sd_vae="other.safetensors")
    other = pair.tagged()
    assert other.bits == pair.fresh[FIRST].bits
    assert difference(other.drawn.picture, pair.fresh[FIRST].drawn.picture) > 0
    assert pair.is_clean()


@pytest.mark.parametrize("limit", [1, 3])
@several
def test_every_checkpoint_draws_as_after_a_fresh_start(pair, limit):
    pair.options(sd_checkpoints_limit=limit)
    for name in (SAME_KIND, OTHER_FAMILY, FIRST, SAME_KIND):
        pair.switch(name)
        for is_good in (pair.is_as_fresh, pair.is_clean):
            assert is_good(), (name, is_good.__name__)
        pair.tagged()  # so that it is left with adapters
        assert pair.ours.request("/probe/weights")["loaded"] <= limit


@several
def test_cached_checkpoints_are_never_written_to(pair):
    pair.forget_models()
    pair.options(sd_checkpoint_cache=3)
    for name in (SAME_KIND, FIRST):
        pair.switch(name)
        before = pair.ours.request("/probe/cached")
        assert pair.is_as_fresh()
        assert pair.ours.request("/probe/cached") == before
    assert pair.ours.request("/probe/weights")["cached"] == 2
    for name in (SAME_KIND, FIRST):
        pair.switch(name)
        assert pair.is_clean()
        assert pair.is_as_fresh()
    assert pair.ours.request("/probe/cached") == before


PASSES = {
    "refiner": {"refiner_checkpoint": SAME_KIND, "refiner_switch_at": 0.4, "steps": 5},
    "hires checkpoint": {"enable_hr": True, "hr_upscaler": "Latent", "denoising_strength": 0.7,
                         "hr_second_pass_steps": 2, "hr_checkpoint_name": SAME_KIND},
}


@pytest.mark.parametrize("which", PASSES)
def test_a_checkpoint_for_the_second_half_of_the_picture(pair, which):
    options = PASSES[which]
    pair.forget_models()
    first = pair.tagged(**options).drawn.picture
    assert difference(first, pair.plain.draw(PROMPT, **options).picture) > 0
    assert pair.is_as_fresh()
    assert pair.is_clean(**options)
    assert pair.is_clean()
    assert difference(pair.tagged(**options).drawn.picture, first) == 0
    assert pair.is_clean()


def draw_and(webui: WebUI, command: str, prompt: str, **options: Any) -> tuple[Drawn, int]:
    """The picture in whose middle `command` was given, and at which step that was."""
    drawn: list[Drawn] = []
    drawing = threading.Thread(target=lambda: drawn.append(webui.draw(prompt, **options)))
    drawing.start()
    step = 0
    while step < 2 and drawing.is_alive():
        step = webui.request("/sdapi/v1/progress?skip_current_image=true")["state"]["sampling_step"]
        time.sleep(0.02)
    webui.request(f"/sdapi/v1/{command}", {})
    drawing.join()
    return drawn[0], step


@pytest.mark.parametrize("is_good", [Pair.is_clean, Pair.is_as_fresh])
def test_interrupted(pair, is_good):
    _, step = draw_and(pair.ours, "interrupt", pair.tags(), steps=150)
    assert 2 <= step < 150
    assert is_good(pair)


def test_skipped(pair):
    """The picture after it still carries the tags."""
    whole = pair.ours.draw(pair.tags(), steps=30, seed=2)
    drawn, step = draw_and(pair.ours, "skip", pair.tags(), steps=30, n_iter=2)
    assert 2 <= step < 30
    assert difference(drawn.pictures[-1], whole.picture) == 0
    assert pair.is_clean()
    assert pair.is_as_fresh()


VARYING = f"{PROMPT} <lora:sd1:0.5:0@0,1@1> <lora:text:0.9:stop=0.5>|<lora:second:0.6:on=cond:start=0.2:stop=0.8>"
TWO = {"steps": 5, "script_name": "prompt matrix", "script_args": [False, False, "positive", "space", 0]}
ENDS_IT = ("interrupted", "skipped", "an accident", "out of memory")
IS_NOT_SEEN = ("moved", "loaded again", "another checkpoint", "another attention")  # what exchanges weights waits


@pytest.mark.parametrize("event", ENDS_IT + IS_NOT_SEEN)
def test_in_mid_schedule(pair, event):
    """Of two pictures, each with its own tags: made at once, or one after the other where one is skipped."""
    def draw(batch: int = 2) -> list[np.ndarray]:
        drawn = pair.ours.draw(VARYING, batch_size=batch, **TWO)
        assert "problems" not in "".join(drawn.texts)
        return drawn.pictures[-2:]

    if not pair.varying:
        pair.varying = draw()
    pair.ours.request("/probe/happen", {"step": 2, "event": event})
    breaks = pytest.raises(AssertionError, match="500") if event in FAILURES else contextlib.nullcontext()
    with breaks:
        pictures = draw(batch=1 if event == "skipped" else 2)
    assert pair.ours.request("/probe/happen") == []  # it was in the middle
    if event == "interrupted":
        assert difference(pictures[1], pair.varying[1]) > 0
    if event == "skipped":
        assert difference(pictures[0], pair.varying[0]) > 1
        assert difference(pictures[1], pair.varying[1]) <= 1  # alone, and in a batch
    if event in IS_NOT_SEEN:
        assert [difference(*each) for each in zip(pictures, pair.varying, strict=True)] == [0, 0]
    assert pair.is_clean()
    assert pair.is_as_fresh()
    if event in ENDS_IT:
        assert [difference(*each) for each in zip(draw(), pair.varying, strict=True)] == [0, 0]


@pytest.mark.parametrize("which", PASSES)
def test_weights_that_vary_go_on_in_another_checkpoint(pair, which):
    first, again = (pair.ours.draw(VARYING, batch_size=2, **{**TWO, **PASSES[which]}) for _ in range(2))
    assert "problems" not in "".join(first.texts)
    assert [difference(*each) for each in zip(first.pictures, again.pictures, strict=True)] == [0, 0, 0]
    assert difference(*first.pictures[-2:]) > 8
    assert pair.is_clean()
    assert pair.is_as_fresh()


FAILURES = {
    "out of memory": "not enough memory",
    "no memory for the CPU": "not enough memory",
    "an accident": "an accident",
    "a mistake": "an error in lib_lora, no adapter is active: TypeError",
}


def test_a_failure_in_the_middle_takes_every_adapter_out_and_says_so(pair):
    untouched = look(pair.plain, PROMPT)
    places = ((1, ""), (100, f"{PROMPT} <lora:second:0.5>"), (40, pair.tags(0.3)), (100, ""))
    for (error, told), (at, before) in zip(FAILURES.items(), places, strict=True):
        pair.ours.draw(before)
        pair.ours.request("/probe/fail", {"at": at, "error": error})
        failed = look(pair.ours, pair.tags())
        assert pair.ours.request("/probe/fail-no-more", {}) >= at
        assert failed.is_same(untouched)
        assert failed.weights == untouched.weights
        assert told in pair.ours.parse(failed.drawn.text)["Lora problems"]
        assert pair.is_as_fresh()
    assert pair.is_clean()


@pytest.mark.parametrize("started", SEVERAL[:1], indirect=True, scope="module")
def test_fp8_is_switched_on_and_off(pair):
    """Each load after fp8 was on finds the WebUI's noise schedule rounded: pictures move by a level or two."""
    try:
        for storage, name in (("Enable", FIRST), ("Enable for SDXL", OTHER_FAMILY), ("Enable for SDXL", FIRST),
                              ("Enable", SAME_KIND), ("Disable", FIRST)):
            pair.tagged()
            pair.options(fp8_storage=storage)
            pair.switch(name)
            assert pair.is_clean(), (storage, name)
            seen, fresh = pair.tagged(), pair.fresh[name]
            is_small = storage == "Enable" or (storage, name) == ("Enable for SDXL", OTHER_FAMILY)
            assert any("float8" in each for each in seen.weights["types"]) == is_small, (storage, name)
            assert (seen.weights["hooks"] > 0) == is_small, (storage, name, seen.drawn.text)
            if is_small:
                assert difference(seen.drawn.picture, pair.plain.draw(PROMPT).picture) > 8
            else:
                assert seen.bits == fresh.bits
                assert difference(seen.drawn.picture, fresh.drawn.picture) <= 3
    finally:
        pair.options(fp8_storage="Disable")
        pair.forget_models()
    assert pair.is_as_fresh()
    assert pair.is_clean()


@several
def test_a_new_start_of_the_program_draws_the_same(pair, start, request):
    kind = request.node.callspec.params["started"]
    for name in (SAME_KIND, OTHER_FAMILY):
        webui = start(kind, checkpoint=f"{name}.safetensors").wait()
        try:
            # The model of its start is 1/255 apart from those loaded later in 44 of 150 SDXL pictures, also without us.
            webui.request("/probe/forget-models", {})
            pair.checkpoint = name
            assert look(webui, pair.tags()).is_same(pair.fresh[name])
        finally:
            webui.stop()
