"""LoRA that took something out of the base weight when it started: PiSSA (2404.02948), OLoRA (2406.01775), MiLoRA.

PEFT starts the factors from the weight and subtracts their product, W_res = W - s * B0 A0, and trains on W_res:

    delta = s * B A - s * B0 A0

The file holds B and A alone. Where B0 A0 follows from the weight (singular vectors, a QR decomposition) it is computed
from the one at hand; where it came from data (CorDA, LoRA-GA), chance or rounding, the module is refused.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from lib_lora.algorithms.base import Delta, Parts, PartsError, Shape, Wrapper, like, matrix, precise
from lib_lora.algorithms.lora import Lora

NAMES = {"pissa": "PiSSA", "olora": "OLoRA", "milora": "MiLoRA"}
LOST = {  # start -> (name, what it depended on)
    "corda": ("CorDA", "training data that the file leaves out"),
    "lora_ga": ("LoRA-GA", "gradients that the file leaves out"),
    "loftq": ("LoftQ", "the rounding of a quantised model"),
    "pissa_niter": ("PiSSA by random iterations", "chance"),
}
PLAIN = frozenset(
    {"", "true", "false", "none", "default", "gaussian", "eva", "orthogonal", "mica", "kaiming", "random"}
)
CONVERT = "save it as a plain LoRA (PEFT: path_initial_model_for_weight_conversion)"
NOTE = (
    "took a part out of the base model when its training started; it is computed from the checkpoint at hand, exact "
    "only on the one that it was trained on"
)


@dataclass(frozen=True, eq=False)
class Started(Wrapper):
    """The wrapped LoRA minus what it started from."""

    additive = False

    inner: Lora
    start: str

    @classmethod
    def wrap(cls, inner: Delta, parts: Parts) -> Delta:
        """By `parts.origin.start`; `inner` where training left the base as it was, or the file was converted."""
        start = parts.origin.start
        if start in PLAIN or not isinstance(inner, Lora):
            return inner
        if _is_converted(inner):
            return _with_trained_scale(inner, parts)
        lost = next((found for name, found in LOST.items() if start.startswith(name)), None)
        if lost is not None:
            raise PartsError(f"{lost[0]} changed the base model by {lost[1]}; {CONVERT}")
        if start not in NAMES:
            parts.notes.append(f"its training started by '{start[:40]}', which is not known here; used as plain LoRA")
            return inner
        parts.notes.append(f"{NAMES[start]} {NOTE}")
        return cls(inner, start)

    def misfit(self, shape: Shape) -> str | None:
        return self.inner.misfit(shape)

    def value(self, weight: Tensor) -> Tensor:
        up, down = precise(self.inner.up, weight), precise(self.inner.low_rank().down, weight)
        change = up @ down * self.inner.scale - self._taken_out(weight)  # both are large, and near each other
        return like(change, weight).reshape(weight.shape)

    def _taken_out(self, weight: Tensor) -> Tensor:
        """s * B0 A0, (o, i)."""
        whole, rank = precise(matrix(weight), weight), self.inner.rank
        if self.start == "olora":
            basis = torch.linalg.qr(whole[:, :rank])[0]
            return basis @ (basis.T @ whole) * self.inner.scale
        return singular_part(whole, rank, "last" if self.start == "milora" else "principal")


def singular_part(whole: Tensor, rank: int, which: str) -> Tensor:
    """The sum of `rank` singular values and their vectors: the `principal`, the `last` or the `middle` ones."""
    left, values, right = torch.linalg.svd(whole, full_matrices=False)
    rest = max(values.shape[0] - rank, 0)
    begin = {"principal": 0, "last": rest, "middle": rest // 2}[which]
    chosen = slice(begin, begin + rank)
    return left[:, chosen] * values[chosen] @ right[chosen]


def _is_converted(lora: Lora) -> bool:
    """PEFT's plain LoRA of it has the start as its second half: [B, -B0] and [A; A0], each still like the first."""
    half, odd = divmod(lora.rank, 2)
    if odd or half == 0 or lora.core is not None:
        return False
    up, down = lora.up.float(), lora.down.float()
    return _likeness(up[:, :half].T, -up[:, half:].T) > 0.5 and _likeness(down[:half], down[half:]) > 0.5


def _likeness(one: Tensor, other: Tensor) -> float:
    return float(torch.cosine_similarity(one, other, dim=1).mean())


def _with_trained_scale(lora: Lora, parts: Parts) -> Lora:
    """Of a converted file whose configuration is still that of the training: half the rank."""
    if parts.origin.rank is None or parts.origin.alpha is None or 2 * parts.origin.rank != lora.rank:
        return lora
    return replace(lora, scale=lora.scale * (2**0.5 if parts.origin.alpha_root else 2))
