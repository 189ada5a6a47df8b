"""The table of algorithms: what each calls its parts, which it needs, where its rank is, what it is called. No torch.

Adding one is a file in this room, with its class, and a line in ALGORITHMS. All who classify read TABLE: how keys are
split, what the list and `info` say of a file, which base model it is for, and `read.py`, which makes deltas of it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache

from lib_lora.algorithms.facts import Algorithm, Refused, Shapes, When, always, longer, product, same, shorter, size
from lib_lora.algorithms.refused import REFUSED

COMMON = same("weight", "alpha", "scale", "scalar")  # of many algorithms; alone they say nothing
COMMON_WHOLE = frozenset({"alpha", "scale", "scalar"})  # may be whole numbers
ACCESSORIES = COMMON.keys()
LORA = {
    "lora_up.weight": "up",
    "lora_down.weight": "down",
    "lora_mid.weight": "mid",
    "lora_B.weight": "up",
    "lora_A.weight": "down",
    "lora_B": "up",
    "lora_A": "down",
    "lora.up.weight": "up",
    "lora.down.weight": "down",
    "lora_linear_layer.up.weight": "up",
    "lora_linear_layer.down.weight": "down",
}
LOHA = ("hada_w1_a", "hada_w1_b", "hada_w2_a", "hada_w2_b", "hada_t1", "hada_t2")
LOKR = ("lokr_w1", "lokr_w1_a", "lokr_w1_b", "lokr_t1", "lokr_w2", "lokr_w2_a", "lokr_w2_b", "lokr_t2")
SPARSE = ("bias_indices", "bias_values", "bias_size")


def is_convolution(module: str, shapes: Shapes) -> bool:
    """With a Tucker core, or larger than 1 x 1: kohya's plain LoRA covers 1 x 1 convolutions too."""
    down = shapes["down"]
    return "mid" in shapes or (len(down) == 4 and down[2] * down[3] > 1)


def has_stages(module: str, shapes: Shapes) -> bool:
    return len(shapes["oft_blocks"]) == 4


def is_kohyas(module: str, shapes: Shapes) -> bool:
    """By its spelling: LyCORIS names the parts of its own alike."""
    return module.startswith("oft_")


# For a weight: the first that fits.
ALGORITHMS: tuple[Algorithm, ...] = (
    Algorithm("LoCon", "lora.Locon", (("up", "down"),), LORA, is_convolution, named=frozenset({"lora_A", "lora_B"}),
              rank=size("down", axis=0), inputs=size("down", axis=1), products=(("up", "down", "mid"),),
              covers="LoRA"),
    Algorithm("LoRA", "lora.Lora", (("up", "down"),), LORA, named=frozenset({"lora_A", "lora_B"}),
              rank=size("down", axis=0), inputs=size("down", axis=1), products=(("up", "down", "mid"),)),
    Algorithm("LoHa", "loha.Loha", (LOHA[:4],), same(*LOHA),
              rank=size("hada_w1_b", axis=0), inputs=size("hada_w1_b", axis=1), products=(LOHA,)),
    Algorithm("LoKr", "lokr.Lokr",
              (("lokr_w1", "lokr_w2"), ("lokr_w1", "lokr_w2_a", "lokr_w2_b"), ("lokr_w1_a", "lokr_w1_b", "lokr_w2"),
               ("lokr_w1_a", "lokr_w1_b", "lokr_w2_a", "lokr_w2_b")),
              same(*LOKR), rank=size("lokr_w2_b", "lokr_w1_b", axis=0),
              inputs=product(size("lokr_w1", "lokr_w1_b", axis=1), size("lokr_w2", "lokr_w2_b", axis=1)),
              products=(LOKR,)),
    Algorithm("GLoRA", "glora.Glora", (("a1", "a2", "b1", "b2"),),
              {f"{part}.weight": part for part in ("a1", "a2", "b1", "b2", "bm")},
              rank=shorter("a1"), inputs=longer("a1"),  # (in, rank), in old files (rank, in)
              products=(("a1", "a2"), ("b1", "b2", "bm"))),
    Algorithm("OFTv2", "oft2.Oft2", (("oft_r",),), {"oft_R.weight": "oft_r", "oft_R.scaled_oft": "scaled_oft"},
              named=frozenset({"oft_R"}), whole=frozenset({"scaled_oft"}), products=(("oft_r",),)),
    Algorithm("BOFT", "boft.Boft", (("oft_blocks",),), same("oft_blocks", "rescale"), has_stages,
              products=(("oft_blocks",),), acting=frozenset({"rescale"})),
    Algorithm("OFT", "oft.Oft", (("oft_blocks",),), same("oft_blocks", "rescale"), is_kohyas,
              products=(("oft_blocks",),), acting=frozenset({"rescale"})),
    Algorithm("diag-OFT", "oft.DiagOft", (("oft_blocks",), ("oft_diag",)), same("oft_blocks", "oft_diag", "rescale"),
              products=(("oft_blocks",),), acting=frozenset({"oft_diag", "rescale"})),
    Algorithm("T-LoRA", "tlora.Tlora", (("q_layer", "p_layer", "lambda_layer"),),
              {"q_layer.weight": "q_layer", "p_layer.weight": "p_layer", "lambda_layer": "lambda_layer"},
              rank=size("q_layer", axis=0), inputs=size("q_layer", axis=1), acting=frozenset({"q_layer"})),
    Algorithm("IA3", "ia3.Ia3", (("weight", "on_input"),), same("weight", "on_input"), whole=frozenset({"on_input"}),
              products=(("weight",),)),
    Algorithm("Norm", "norm.Norm", (("w_norm",),), same("w_norm"), products=(("w_norm",),)),
    Algorithm("Full", "full.Full", (("diff",),), same("diff"), inputs=size("diff", axis=1), products=(("diff",),)),
)  # fmt: skip
# Around what was found for the weight, each around the one before.
WRAPPERS: tuple[Algorithm, ...] = (
    Algorithm("", "started.Started", ((),)),  # whether it is one, the metadata tell
    Algorithm("", "residual.Residual", (SPARSE,), same(*SPARSE), whole=frozenset({"bias_indices", "bias_size"}),
              products=(("bias_values",),)),
    Algorithm("DoRA", "dora.Dora", (("dora_scale",), ("magnitude",)),
              {"dora_scale": "dora_scale", "lora_magnitude_vector": "magnitude",
               "lora_magnitude_vector.weight": "magnitude", "magnitude": "magnitude"},  # the last one: ai-toolkit's
              named=frozenset({"lora_magnitude_vector"}), acting=frozenset({"dora_scale", "magnitude"})),
)  # fmt: skip
# For a bias, beside anything for the weight or alone: the first that fits.
BIASES: tuple[Algorithm, ...] = (
    Algorithm("LoRA", "lora.LoraBias", (("up", "down", "lora_bias"),), {"lora_B.bias": "lora_bias"},
              products=(("lora_bias",),)),
    Algorithm("Norm", "norm.NormBias", (("b_norm",),), same("b_norm"), products=(("b_norm",),)),
    Algorithm("Full", "full.FullBias", (("diff_b",),), same("diff_b"), products=(("diff_b",),)),
)  # fmt: skip


@dataclass(frozen=True, eq=False)
class Understood:
    """What a module is, from the names and shapes of its parts."""

    weight: Algorithm | None = None
    bias: Algorithm | None = None
    around: tuple[Algorithm, ...] = ()  # the weight's wrappers
    refused: str = ""  # a sentence: why it cannot be used. Empty for COMMON parts alone, which are nothing at all

    @cached_property
    def algorithm(self) -> Algorithm | None:
        """The one that has named the module."""
        return self.weight or self.bias

    @cached_property
    def labels(self) -> tuple[str, ...]:
        """ ("LoHa", "DoRA"); none if the module cannot be used."""
        if self.algorithm is None:
            return ()
        return self.algorithm.label, *(each.label for each in self.around if each.label)


@dataclass(frozen=True, eq=False)
class Table:
    """All rows, and what follows from them, computed when it is first asked for."""

    algorithms: tuple[Algorithm, ...] = ALGORITHMS
    wrappers: tuple[Algorithm, ...] = WRAPPERS
    biases: tuple[Algorithm, ...] = BIASES
    refused: tuple[Refused, ...] = REFUSED

    @property
    def rows(self) -> tuple[Algorithm, ...]:
        """Of everything that is supported."""
        return (*self.algorithms, *self.wrappers, *self.biases)

    @cached_property
    def parts(self) -> Mapping[str, str]:
        """{end of a key, as files spell it: canonical part name}."""
        found = dict(COMMON)
        for row in self.rows:
            found |= row.parts
        return found | same(*(part for row in self.refused if row.is_ending for part in row.parts))

    @cached_property
    def longest(self) -> int:
        """Words of the longest of them."""
        return max(part.count(".") + 1 for part in self.parts)

    @cached_property
    def peft_parts(self) -> frozenset[str]:
        """What is known only to be refused, and may have the name of PEFT's adapter behind it."""
        return frozenset(part for row in self.refused if row.is_peft for part in row.parts)

    @cached_property
    def named(self) -> frozenset[str]:
        """Words of keys behind which there may be that name."""
        return self.peft_parts.union(*(row.named for row in self.rows))

    @cached_property
    def whole(self) -> frozenset[str]:
        """Parts that may hold whole numbers; of others that would be a quantised adapter."""
        return COMMON_WHOLE.union(*(row.whole for row in self.rows))

    @cached_property
    def products(self) -> tuple[tuple[str, ...], ...]:
        return tuple(dict.fromkeys(product for row in self.rows for product in row.products))

    @cached_property
    def acting(self) -> frozenset[str]:
        return frozenset[str]().union(*(row.acting for row in self.rows))

    def understand(self, module: str, shapes: Shapes) -> Understood:
        """What the module of this name is, and if it is nothing, why: the one place that decides."""
        for when, understood in _possible(self, frozenset(shapes)):
            if when(module, shapes):
                return understood
        raise AssertionError("the last one is always possible")

    def inputs(self, shapes: Shapes) -> int | None:
        """Input features of a module's weight, also of an incomplete module; None where its parts do not tell."""
        return next((width for row in self.algorithms if (width := row.inputs(shapes))), None)

    def label(self, home: str) -> str:
        """That of the class in "loha.Loha"."""
        return self._labels.get(home, "")

    @cached_property
    def _labels(self) -> Mapping[str, str]:
        return {row.home: row.label for row in self.rows}

    def summary(self, modules: Iterable[tuple[str, ...]]) -> tuple[str, ...]:
        """One list from the labels of many modules: the most frequent first, at the end what is around some of them."""
        counts: Counter[str] = Counter()
        around: dict[str, None] = {}
        for (first, *others), count in Counter(modules).items():
            counts[first] += count
            around.update(dict.fromkeys(others))
        for row in self.algorithms:
            if row.label in counts:
                counts.pop(row.covers, None)
        return (*(label for label, _ in counts.most_common()), *around)


@lru_cache(maxsize=1024)  # thousands of modules have one of a few sets of parts
def _possible(table: Table, parts: frozenset[str]) -> tuple[tuple[When, Understood], ...]:
    """What a module with these parts may be, and when it is; the last one always."""
    if why := next((row.why for row in table.refused if not parts.isdisjoint(row.parts)), ""):
        return ((always, Understood(refused=why)),)

    def having(rows: tuple[Algorithm, ...]) -> tuple[Algorithm, ...]:
        return tuple(row for row in rows if any(parts.issuperset(needed) for needed in row.needs))

    bias, around = next(iter(having(table.biases)), None), having(table.wrappers)
    found = [(row.when, Understood(row, bias, around)) for row in having(table.algorithms)]
    why = "" if bias or parts <= ACCESSORIES else incomplete(parts)
    return (*found, (always, Understood(bias=bias, refused=why)))


def incomplete(parts: Collection[str]) -> str:
    """Why a module with these parts is none of any algorithm."""
    return f"incomplete: {' and '.join(sorted(parts))} alone {'is' if len(parts) == 1 else 'are'} not enough"


TABLE = Table()
