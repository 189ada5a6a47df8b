"""Reading files, among them broken and hostile ones: what can be used is used, what cannot is named, nothing is executed."""

# ruff: noqa: E501  (tables and names that are sentences)

from __future__ import annotations

import io
import json
import os
import pickle
import struct
import weakref
import zipfile
from collections import OrderedDict

import pytest
import torch
from safetensors.torch import save_file

from lib_lora.adapters.adapter import AdapterCache, is_finite, read_adapter
from lib_lora.adapters.origin import Origins
from lib_lora.errors import AdapterFileError
from tests.support_golden import GIVEN

MODULE = "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn1_to_q"


def lora(name=MODULE, *, value=1.0, dtype=torch.float32, size=8):
    return {f"{name}.lora_up.weight": torch.full((size, 1), value, dtype=dtype),
            f"{name}.lora_down.weight": torch.full((1, size), value, dtype=dtype)}  # fmt: skip


def write(path, tensors, **metadata):
    save_file(tensors, path, metadata=metadata)
    return path


def problem(path) -> str:
    with pytest.raises(AdapterFileError) as caught:
        read_adapter(path)
    return str(caught.value)


# what is in a file


def test_an_adapter_tells_its_algorithms_ranks_and_what_was_not_understood(tmp_path):
    tensors = {
        **lora(),
        **lora("lora_unet_b", size=4),
        f"{MODULE}.whatever": torch.zeros(1),
        "lora_unet_c.diff": torch.zeros(2, 2),
    }
    adapter = read_adapter(write(tmp_path / "a.safetensors", tensors, ss_output_name="x"))
    assert adapter.algorithms == ("Full", "LoRA")
    assert adapter.ranks == (1,)
    assert adapter.unknown == (f"{MODULE}.whatever",)
    assert adapter.metadata == {"ss_output_name": "x"}


def test_a_bad_module_is_refused_alone_and_by_name(tmp_path):
    tensors = {
        **lora(),
        **lora("nan", value=float("nan")),
        **lora("inf", value=float("inf")),
        "half.lora_up.weight": torch.ones(2, 1),
        "int8.lora_up.weight": torch.ones(2, 1, dtype=torch.int8), "int8.lora_down.weight": torch.ones(1, 2),
        "peft.vera_lambda_b": torch.ones(2),
    }  # fmt: skip
    adapter = read_adapter(write(tmp_path / "a.safetensors", tensors))
    assert list(adapter.modules) == [MODULE]
    assert sorted(adapter.refused) == [
        "half: incomplete: up alone is not enough",
        "inf: down holds values that are not finite numbers",
        "int8: up holds int8 numbers: quantised adapters are not supported",
        "nan: down holds values that are not finite numbers",
        "peft: trained with PEFT's VeRA, which is not supported",
    ]


def test_large_finite_values_are_finite():
    assert is_finite(torch.full((1000,), 6e4, dtype=torch.float16))
    assert is_finite(torch.full((10,), 3e38))
    assert is_finite(torch.full((10,), 1e308, dtype=torch.float64))  # their sum is not
    assert not is_finite(torch.tensor([1e308, float("inf")], dtype=torch.float64))
    assert not is_finite(torch.tensor([0.0, float("nan")], dtype=torch.bfloat16))


@pytest.mark.parametrize(
    "dtype", [torch.float8_e4m3fn, torch.float8_e5m2, torch.bfloat16, torch.float16, torch.float64]
)
def test_every_kind_of_floating_point_number_is_read_exactly(tmp_path, dtype):
    tensors = {key: tensor.to(dtype) for key, tensor in lora(value=0.375).items()}
    delta = read_adapter(write(tmp_path / "a.safetensors", tensors)).modules[MODULE]["weight"]
    assert delta.value(torch.zeros(8, 8)).unique().tolist() == [0.375**2]


def test_a_tensor_under_two_names_counts_once_and_is_told(tmp_path):
    tensors = {**lora(), f"{MODULE}.lora_A.weight": torch.ones(1, 8)}
    adapter = read_adapter(write(tmp_path / "a.safetensors", tensors))
    assert len(adapter.unknown) == 1


# embeddings


def test_bundled_embeddings_come_with_their_names_whatever_these_are(tmp_path):
    tensors = {
        **lora(),
        "bundle_emb.my token v1.5.string_to_param.*": torch.ones(3, 4),
        "bundle_emb.xl.clip_l": torch.ones(2, 4), "bundle_emb.xl.clip_g": torch.ones(2, 6), "bundle_emb.xl.clip_l_out": torch.ones(2, 4),
        "bundle_emb.single.emb_params": torch.ones(4),
        "bundle_emb.bad.clip_l": torch.full((1, 4), float("nan")),
        "bundle_emb.odd.something": torch.ones(1),
    }  # fmt: skip
    adapter = read_adapter(write(tmp_path / "a.safetensors", tensors))
    found = {name: {part: tuple(t.shape) for part, t in parts.items()} for name, parts in adapter.embeddings.items()}
    assert found == {
        "my token v1.5": {"text": (3, 4)},
        "xl": {"clip_l": (2, 4), "clip_g": (2, 6)},
        "single": {"text": (1, 4)},
    }
    assert adapter.refused == ("the embedding bad: clip_l is no list of vectors of finite numbers",)
    assert adapter.unknown == ("bundle_emb.odd.something",)


def test_the_embeddings_of_the_given_files():
    index = json.loads((GIVEN / "index.json").read_text())["sets"]["dev"]["bundle_embeddings"] if GIVEN.is_dir() else {}
    for stem, words in index.items():
        found = read_adapter(GIVEN / "adapters" / f"{stem}.safetensors").embeddings
        assert found.keys() == words.keys()
        for word, about in words.items():
            for tensor in found[word].values():
                assert tensor.shape[0] == about["vectors"]


# what a file says beside its tensors


def origin(module="unet.down.to_q", config=None, **metadata):
    return Origins(
        {key: value if isinstance(value, str) else json.dumps(value) for key, value in metadata.items()}, config
    ).of(module)


def test_alpha_comes_from_the_header_of_diffusers():
    header = {"unet.r": 4, "unet.lora_alpha": 2, "unet.alpha_pattern": {"down.to_k": 8, "^mid.*": 16}, "text_encoder.lora_alpha": 5,
              "text_encoder.use_rslora": True}  # fmt: skip
    assert origin(lora_adapter_metadata=header).alpha == 2
    assert origin("unet.a.down.to_k", lora_adapter_metadata=header).alpha == 8
    assert origin("unet.xdown.to_k", lora_adapter_metadata=header).alpha == 2
    assert origin("unet.mid.to_k", lora_adapter_metadata=header).alpha == 16
    assert origin("base_model.model.a.down.to_k", lora_adapter_metadata=header).alpha == 8
    assert origin("text_encoder.x", lora_adapter_metadata=header).alpha == 5
    assert origin("text_encoder.x", lora_adapter_metadata=header).alpha_root
    assert origin("text_encoder_2.x", lora_adapter_metadata=header).alpha is None


@pytest.mark.parametrize("value", ["[]", "{", "nonsense", '{"unet": 3}', '{"unet.lora_alpha": "x"}', '{"unet.lora_alpha": NaN}',
                                   '{"unet.lora_alpha": true}', '{"unet.alpha_pattern": [1]}', "[" * 10000])  # fmt: skip
def test_nonsense_in_the_header_means_nothing(value):
    assert origin(lora_adapter_metadata=value).alpha is None


NINES = "9" * 400


@pytest.mark.parametrize("header", [
    f'{{"unet.r": {NINES}, "unet.x": NaN}}', f'{{"unet.r": {NINES}}}', f'{{"lora_alpha": {NINES}, "x": NaN}}',
    '{"unet.r": -4, "unet.use_rslora": true, "unet.lora_alpha": -1}', '{"lora_alpha": 1e300, "r": 0, "use_rslora": true}',
    f'{{"unet.alpha_pattern": {{"a": {NINES}}}, "x": NaN}}', '{"unet.alpha_pattern": {"": 1, ".": [], "to_q": {}}}',
    '{"r": 1e999, "lora_alpha": [[[[]]]], "num_cayley_neumann_terms": 1e308, "x": Infinity}',
])  # fmt: skip
@pytest.mark.parametrize("key", ["lora_adapter_metadata", "ss_network_args"])
def test_numbers_that_no_trainer_writes_mean_nothing(tmp_path, header, key):
    path = write(tmp_path / "a.safetensors", lora("unet.down.to_q"), **{key: header})
    scale = read_adapter(path).modules["unet.down.to_q"]["weight"].scale
    assert scale in (1.0, -1.0)


def test_arguments_that_are_lists_in_lists_mean_nothing(tmp_path):
    deep = json.dumps({"rs_lora": 0, "sig_type": 0, "use_data_init": 0}).replace("0", "[" * 90 + "]" * 90)
    path = write(tmp_path / "a.safetensors", lora(), ss_network_args=deep, ot_config=deep.replace("sig_type", "model_type"))
    assert list(read_adapter(path).modules) == [MODULE]


def test_a_pattern_made_to_take_for_ever_is_not_tried():
    header = {"unet.lora_alpha": 2, "unet.alpha_pattern": {"(a+)+$": 8, "(.*)*x": 9, "(": 10, ".*.*.*.*.*x": 11}}
    assert origin("unet." + "a" * 5000, lora_adapter_metadata=header).alpha == 2


@pytest.mark.parametrize(
    ("date", "root"),
    [("1712000000", False), ("1714000000", True), ("1720000000", True), ("1721000000", False), ("x", False)],
)
def test_rs_lora_of_lycoris_is_told_by_its_date(date, root):
    said = origin("lora_unet_x", ss_network_args={"rs_lora": "True"}, ss_training_started_at=date)
    assert (said.root, said.rs_lora) == (root, True)
    assert not origin("lora_unet_x", ss_network_args={"rs_lora": "False"}, ss_training_started_at=date).root


def test_an_adapter_config_belongs_to_the_only_file_of_its_folder_or_to_pefts_own_name(tmp_path):
    tensors = {
        "base_model.model.x.lora_A.weight": torch.ones(1, 8),
        "base_model.model.x.lora_B.weight": torch.ones(8, 1),
    }
    (tmp_path / "adapter_config.json").write_text('{"r": 1, "lora_alpha": 3}')

    def scale(name):
        return read_adapter(tmp_path / name).modules["base_model.model.x"]["weight"].scale

    write(tmp_path / "a.safetensors", tensors)
    assert scale("a.safetensors") == 3
    write(tmp_path / "adapter_model.safetensors", tensors)
    assert scale("a.safetensors") == 1
    assert scale("adapter_model.safetensors") == 3
    (tmp_path / "adapter_config.json").write_text('["not", "an", "object"]')
    assert scale("adapter_model.safetensors") == 1


# files that are something else

FOREIGN = {
    "control LoRA": {"lora_controlnet": torch.zeros(1), **lora()},
    "ControlNet": {"control_model.input_blocks.0.0.weight": torch.zeros(2, 2)},
    "cloneofsimo": {"unet:0:up": torch.zeros(2, 1), "unet:0:down": torch.zeros(1, 2)},
    "textual inversion": {"emb_params": torch.zeros(2, 4)},
    "textual inversion embedding": {"clip_l": torch.zeros(2, 4), "clip_g": torch.zeros(2, 4)},
    "whole checkpoint": {"model.diffusion_model.out.2.weight": torch.zeros(2, 2), "model.diffusion_model.out.2.bias": torch.zeros(2)},
    "whole UNet": {"down_blocks.0.resnets.0.conv1.weight": torch.zeros(2, 2), "conv_in.bias": torch.zeros(2)},
    "VAE": {"decoder.conv_in.weight": torch.zeros(2, 2)},
    "IP-Adapter": {"image_proj.proj.weight": torch.zeros(2, 2)},
    "text encoder": {"text_model.encoder.layers.0.mlp.fc1.weight": torch.zeros(2, 2)},
    "no adapter that is known here": {"something": torch.zeros(2)},
}  # fmt: skip


@pytest.mark.parametrize("what", FOREIGN)
def test_a_file_that_is_no_adapter_is_called_by_its_name(tmp_path, what):
    assert what in problem(write(tmp_path / "x.safetensors", FOREIGN[what]))


def test_a_file_in_which_every_module_is_bad_says_so(tmp_path):
    assert "no usable module: a: incomplete" in problem(
        write(tmp_path / "x.safetensors", {"a.lora_up.weight": torch.zeros(2, 1)})
    )
    assert "holds no tensors" in problem(safetensors(tmp_path / "x.safetensors", {}, b""))


# files that lie


def safetensors(path, header: dict, data: bytes, *, length: int | None = None):
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text) if length is None else length) + text + data)
    return path


UP = {"dtype": "F32", "shape": [2, 1], "data_offsets": [0, 8]}
LIES = {
    "a shape larger than its bytes": ({"a.lora_up.weight": {**UP, "shape": [1 << 20, 1 << 20]}}, b"\0" * 8, None),
    "bytes that are not there": (
        {"a.lora_up.weight": {**UP, "shape": [1 << 30], "data_offsets": [0, 1 << 32]}},
        b"\0" * 8,
        None,
    ),
    "offsets that run backwards": ({"a.lora_up.weight": {**UP, "data_offsets": [8, 0]}}, b"\0" * 8, None),
    "tensors on top of each other": ({"a.lora_up.weight": UP, "b.lora_up.weight": UP}, b"\0" * 8, None),
    "a negative shape": ({"a.lora_up.weight": {**UP, "shape": [-2, -1]}}, b"\0" * 8, None),
    "a shape that overflows": ({"a.lora_up.weight": {**UP, "shape": [1 << 62, 4]}}, b"\0" * 8, None),
    "an unknown type": ({"a.lora_up.weight": {**UP, "dtype": "F7"}}, b"\0" * 8, None),
    "a header larger than the file": ({"a.lora_up.weight": UP}, b"\0" * 8, 1 << 40),
    "no header": ({}, b"", 0),
}


@pytest.mark.parametrize("lie", LIES)
def test_a_header_that_lies_is_refused(tmp_path, lie):
    header, data, length = LIES[lie]
    assert "x.safetensors" in problem(safetensors(tmp_path / "x.safetensors", header, data, length=length))


def test_what_is_no_file_of_tensors_is_refused(tmp_path):
    for name in ("x.safetensors", "x.pt"):
        for content in (b"", b"x", b"<html>", os.urandom(1000)):
            (tmp_path / name).write_bytes(content)
            assert name in problem(tmp_path / name)
    assert "missing" in problem(tmp_path / "missing.safetensors")
    assert "missing" in problem(tmp_path / "missing.pt")


# pickles


class Bomb:
    """Runs a command when unpickled."""

    def __init__(self, command):
        self.command = command

    def __reduce__(self):
        return (os.system, (self.command,))


def archive(path, members: dict[str, bytes], *, compression=zipfile.ZIP_STORED):
    with zipfile.ZipFile(path, "w", compression) as file:
        for name, content in members.items():
            file.writestr(f"archive/{name}", content)
    return path


@pytest.mark.parametrize("name", ["x.pt", "x.ckpt", "x.bin", "x.pth"])
def test_a_pickle_of_tensors_is_read_like_any_file(tmp_path, name):
    torch.save(lora(value=0.5), tmp_path / name)
    assert read_adapter(tmp_path / name).modules[MODULE]["weight"].value(torch.zeros(8, 8)).unique().tolist() == [0.25]
    torch.save({"state_dict": OrderedDict(lora(value=0.5)), "step": 3}, tmp_path / name)
    assert list(read_adapter(tmp_path / name).modules) == [MODULE]


def test_tensors_that_share_memory_or_are_views_are_read(tmp_path):
    both = torch.arange(16.0)
    tensors = {
        f"{MODULE}.lora_up.weight": both[:8].reshape(8, 1),
        f"{MODULE}.lora_down.weight": torch.stack([both[8:], both[8:]]).T[:, :1].T,
    }
    torch.save(tensors, tmp_path / "x.pt")
    delta = read_adapter(tmp_path / "x.pt").modules[MODULE]["weight"]
    assert torch.equal(delta.value(torch.zeros(8, 8)), both[:8, None] * both[None, 8:])


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_pickled_numbers_of_every_kind(tmp_path, dtype):
    torch.save(lora(value=0.5, dtype=dtype), tmp_path / "x.pt")
    assert read_adapter(tmp_path / "x.pt").modules[MODULE]["weight"].up.dtype == dtype


def test_a_pickle_that_wants_to_execute_something_does_not(tmp_path):
    proof = tmp_path / "executed"
    bomb = Bomb(f"touch {proof}")
    torch.save({**lora(), "x": bomb}, tmp_path / "a.pt")
    archive(tmp_path / "b.pt", {"data.pkl": pickle.dumps(bomb)})
    (tmp_path / "c.pt").write_bytes(pickle.dumps(bomb))
    archive(tmp_path / "d.pt", {"data.pkl": pickle.dumps(bomb), "constants.pkl": pickle.dumps(bomb), "version": b"3"})
    for name in "abcd":
        assert f"{name}.pt" in problem(tmp_path / f"{name}.pt")
    assert not proof.exists()


def test_a_program_of_torch_is_not_opened(tmp_path):
    torch.jit.script(torch.nn.Linear(2, 2)).save(str(tmp_path / "x.pt"))
    assert "a program" in problem(tmp_path / "x.pt")


def test_names_that_are_not_of_tensors_end_the_reading(tmp_path):
    for name in (
        "builtins.eval",
        "posix.system",
        "torch.load",
        "torch.hub.load",
        "collections.OrderedDict.fromkeys",
        "torch._utils._rebuild_xla_tensor",
    ):
        module, _, attribute = name.rpartition(".")
        archive(tmp_path / "x.pt", {"data.pkl": f"c{module}\n{attribute}\n(S'x'\ntR.".encode()})
        assert "not a plain file of tensors" in problem(tmp_path / "x.pt")


def test_a_zip_that_is_larger_inside_than_outside_is_refused(tmp_path):
    archive(
        tmp_path / "x.pt", {"data.pkl": pickle.dumps({}), "data/0": b"\0" * 10**7}, compression=zipfile.ZIP_DEFLATED
    )
    assert (tmp_path / "x.pt").stat().st_size < 10**5
    assert "not opened" in problem(tmp_path / "x.pt")


def rebuilt(path, *, offset=0, shape=(2, 1), strides=(1, 1), data=b"\0" * 8):
    """A torch file with one tensor, as the arguments describe it."""
    stream = io.BytesIO()

    class Pickler(pickle._Pickler):
        def persistent_id(self, thing):
            return thing if isinstance(thing, tuple) and thing and thing[0] == "storage" else None

    class Rebuild:
        def __reduce__(self):
            storage = ("storage", torch.FloatStorage, "0", "cpu", len(data) // 4)
            return (torch._utils._rebuild_tensor_v2, (storage, offset, shape, strides, False, OrderedDict()))

    Pickler(stream, protocol=2).dump({"a.lora_up.weight": Rebuild()})
    return archive(path, {"data.pkl": stream.getvalue(), "data/0": data})


@pytest.mark.parametrize("lie", [dict(shape=(1 << 20, 1 << 20), strides=(0, 0)), dict(shape=(3, 1)), dict(offset=1), dict(offset=-1),
                                 dict(strides=(7, 1)), dict(shape=(2,)), dict(shape=(-2, -1)), dict(strides=(-1, 1)), dict(shape=("2", 1))])  # fmt: skip
def test_a_pickled_shape_that_lies_is_refused(tmp_path, lie):
    assert "incomplete" in problem(rebuilt(tmp_path / "ok.pt"))  # this one is read
    assert "not a plain file of tensors" in problem(rebuilt(tmp_path / "x.pt", **lie))


def test_a_pickled_embedding_is_called_one(tmp_path):
    torch.save(
        {"string_to_token": {"*": 265}, "string_to_param": {"*": torch.zeros(2, 768)}, "name": "x"}, tmp_path / "x.pt"
    )
    assert "textual inversion" in problem(tmp_path / "x.pt")


# the cache


def test_a_file_is_read_again_only_if_it_changed(tmp_path):
    cache = AdapterCache(limit=2)
    path = write(tmp_path / "a.safetensors", lora())
    first = cache.read(path)
    assert cache.read(path) is first
    write(tmp_path / "a.safetensors", lora(size=16))
    os.utime(path, ns=(1, 1))
    assert cache.read(path) is not first
    (tmp_path / "adapter_config.json").write_text('{"lora_alpha": 3}')
    assert cache.read(path).modules[MODULE]["weight"].scale == 3
    path.unlink()
    with pytest.raises(AdapterFileError, match="cannot be opened"):
        cache.read(path)


def test_with_a_budget_files_are_held_in_memory_and_those_used_last_stay(tmp_path):
    """Two files of 3 fit into the budget; a held one survives that its file is overwritten under the reader."""
    paths = [write(tmp_path / f"{name}.safetensors", lora(value=seed + 1.0)) for seed, name in enumerate("abc")]
    size = paths[0].stat().st_size
    cache = AdapterCache(limit=1, budget=2 * size + 1)
    first, second = cache.read(paths[0]), weakref.ref(cache.read(paths[1]))
    assert cache.read(paths[0]) is first
    cache.read(paths[2])
    assert cache.read(paths[0]) is first
    assert second() is None
    up = first.modules[MODULE]["weight"].up.clone()
    paths[0].write_bytes(bytes(size))
    assert torch.equal(first.modules[MODULE]["weight"].up, up)


def test_without_a_budget_as_many_files_are_kept_as_the_limit_says(tmp_path):
    paths = [write(tmp_path / f"{name}.safetensors", lora(value=seed + 1.0)) for seed, name in enumerate("abc")]
    cache = AdapterCache(limit=2, budget=10)
    kept = [weakref.ref(cache.read(path)) for path in paths]
    assert cache.read(paths[2]) is kept[2]()
    assert cache.read(paths[1]) is kept[1]()
    assert kept[0]() is None


def test_a_file_in_use_is_not_read_again_however_many_are(tmp_path):
    paths = [write(tmp_path / f"{number}.safetensors", lora(value=number + 1.0)) for number in range(12)]
    cache = AdapterCache(limit=2)
    used = [cache.read(path) for path in paths]
    assert all(cache.read(path) is adapter for path, adapter in zip(paths, used, strict=True))
    paths[0].write_bytes(write(tmp_path / "other.safetensors", lora(value=5.0, size=9)).read_bytes())
    assert cache.read(paths[0]) is not used[0]


def test_reading_takes_the_size_of_the_file_and_no_more(tmp_path):
    """50 MB of factors are 50 MB of memory, once."""
    path = write(tmp_path / "a.safetensors", {f"{MODULE}_{n}.{part}": torch.ones(size) for n in range(50)
                                              for part, size in (("lora_up.weight", (1 << 17, 1)), ("lora_down.weight", (1, 1 << 17)))})  # fmt: skip
    own = anonymous_memory()
    adapter = read_adapter(path)
    assert len(adapter.modules) == 50
    assert anonymous_memory() - own < 50 + 10


def test_an_adapter_in_use_does_not_mind_what_becomes_of_its_file(tmp_path):
    """Cut off under a memory map, the next look at a factor would end the process."""
    path = write(tmp_path / "a.safetensors", lora(size=4000))
    delta = read_adapter(path).modules[MODULE]["weight"]
    os.truncate(path, 100)
    assert delta.up.unique().tolist() == [1.0]


def anonymous_memory() -> float:
    """MB of this process that are no map of a file."""
    with open("/proc/self/status") as file:
        return sum(int(line.split()[1]) for line in file if line.startswith("RssAnon")) / 1024
