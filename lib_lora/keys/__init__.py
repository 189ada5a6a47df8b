"""How files spell modules: every spelling of every module is generated, none is parsed.

Kohya keys replace "." by "_" and the modules' own names contain "_", so a key cannot be split back. Instead the model's
modules are enumerated, `spellings` writes down every spelling of each, and reading a file is one dictionary look-up a
module. Adding a spelling = one function in the file of its tool + one line in `SPELLINGS`:

>>> def spell(module: ModuleName) -> Iterator[str]:
...     if module.encoder is None:
...         yield f"my_unet/{module.native}"

>>> list(spell(ModuleName("conv_in", "input_blocks.0.0")))
['my_unet/input_blocks.0.0']
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from lib_lora.keys import comfy, diffusers, kohya, lycoris, omi, sd3
from lib_lora.keys.names import Encoder, ModuleName
from lib_lora.keys.split import Sorted, sort_keys, split_key

Spelling = Callable[[ModuleName], Iterator[str]]

SPELLINGS: tuple[Spelling, ...] = (
    kohya.spell,
    kohya.spell_oft,
    lycoris.spell,
    diffusers.spell,
    comfy.spell,
    omi.spell,
    sd3.spell,
)


def spellings(module: ModuleName) -> Iterator[str]:
    """Every way in which a file may name `module`, most common first."""
    for spell in SPELLINGS:
        yield from spell(module)


__all__ = ["SPELLINGS", "Encoder", "ModuleName", "Sorted", "sort_keys", "spellings", "split_key"]
