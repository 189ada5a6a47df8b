"""`python -m tests.make_golden`: write tests/golden/ anew with the lycoris-lora and peft that are installed."""

from __future__ import annotations

import json

from safetensors.torch import save_file

from tests.support_golden import OWN
from tests.support_reference import LYCORIS, PEFT, base_tensors, layers, reference


def main() -> None:
    OWN.mkdir(exist_ok=True)
    save_file(base_tensors(layers()), OWN / "base.safetensors")
    for name in (*LYCORIS, *PEFT):
        case = reference(name)
        stem = name.replace(" ", "_")
        folder = OWN / stem if case.config else OWN
        folder.mkdir(exist_ok=True)
        path = case.write(folder, "adapter_model" if case.config else stem)
        save_file(
            {key: tensor.contiguous() for key, tensor in case.expected.items()}, OWN / f"{stem}.expected.safetensors"
        )
        print(path.relative_to(OWN), json.dumps(dict(case.metadata)))


if __name__ == "__main__":
    main()
