"""The WebUI's objects as far as they are read here: a protocol stands in place of each class, which has no types.

`lib_lora.webui.doors.OBJECTS` says which class each stands for, and in which file.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, MutableMapping
from typing import Any, Protocol

from torch import nn


class Processing(Protocol):
    """What is made of one click on "Generate", the WebUI's `p`. Some are bare: no prompts, no scripts."""

    prompt: str  # as typed: of all pictures
    prompts: list[str]  # of the pictures that are made at once
    all_prompts: list[str] | None  # of each, with their tags
    all_negative_prompts: list[str] | None
    all_hr_prompts: list[str] | None
    all_hr_negative_prompts: list[str] | None
    iteration: int
    batch_size: int
    seeds: list[int]  # of the pictures that are made at once
    steps: int
    sampler_name: str | None
    hr_second_pass_steps: int  # 0: as many as the first pass
    hr_sampler_name: str | None
    is_hr_pass: bool
    refiner_checkpoint_info: CheckpointInfo | None
    extra_network_data: ExtraNetworkData | None  # of the pictures that are made at once
    hr_extra_network_data: ExtraNetworkData | None
    negative_prompts: list[str]  # of the same
    hr_negative_prompts: list[str] | None
    extra_generation_params: dict[str, Any]  # goes into the picture's text
    lora_hashes: dict[str, str]  # the built-in's, and ours: of the pictures that are made at once
    lora_pictures: dict[int, Any]  # ours: what the text of each picture says, by its number

    def comment(self, text: str) -> None:
        """Say something below the picture."""


class Sampler(Protocol):
    """What draws."""

    config: Any  # has its `name`
    sampler_extra_args: dict[str, Any]  # "cond": with `batch`, for each picture the parts of its prompt


class Denoiser(Protocol):
    """What calls the model for a sampler. Its numbers are of this pass."""

    p: Processing
    sampler: Sampler
    init_latent: Any  # of the picture that the pass begins with; None: noise alone
    step: int  # calls made before this one
    steps: int | None  # of the sampler
    total_steps: int | None  # calls, as the WebUI expects them


class Call(Protocol):
    """One call of the UNet, before it is split: what the WebUI tells its callbacks."""

    x: Any  # (rows, channels, height, width)
    sigma: Any  # (rows,), or a time step
    denoiser: Denoiser


class Params(Protocol):
    """One tag, split at its colons."""

    items: list[str]


class Network(Protocol):
    """Whoever handles a kind of tags."""

    name: str


class SdModel(Protocol):
    """A checkpoint that is loaded; it is a torch module, too."""

    model: Any  # has `diffusion_model`, the UNet
    is_sdxl: bool
    alphas_cumprod: Any  # (1000,), by time step
    sd_checkpoint_info: CheckpointInfo
    network_layer_mapping: dict[str, nn.Module]  # the built-in's, and ours


class CheckpointInfo(Protocol):
    """A file with a checkpoint."""

    filename: str
    name: str  # below the folder of checkpoints
    name_for_extra: str  # the file's, without what follows the point
    title: str
    sha256: str | None  # once it was computed


class Embedding(Protocol):
    """A word of the prompt that stands for vectors."""

    filename: str
    shorthash: str
    shape: int


class EmbeddingTable(Protocol):
    """Every word of the prompt that stands for vectors."""

    word_embeddings: dict[str, Embedding]
    expected_shape: int  # -1: not known yet

    def register_embedding(self, embedding: Embedding, model: SdModel) -> Embedding:
        """Under its own name."""

    def register_embedding_by_name(self, embedding: Embedding | None, model: SdModel, name: str) -> Embedding | None:
        """None takes the word away."""


class Hijack(Protocol):
    """What the WebUI has around its text encoders."""

    embedding_db: EmbeddingTable
    extra_generation_params: dict[str, str]
    comments: list[str]


class Option(Protocol):
    """One line of the settings."""

    section: tuple[str, str]


class Axis(Protocol):
    """One line of the X/Y/Z plot's list."""

    label: str


class Plot(Protocol):
    """The module of the X/Y/Z plot."""

    AxisOption: Callable[..., Axis]
    axis_options: list[Axis]


class Callback(Protocol):
    """Something that a script asked to be called."""

    script: str  # the path of its file


class Lister(Protocol):
    """The WebUI's memory of what lies in the folders."""

    def exists(self, path: str) -> bool:
        """Whether there is such a file."""

    def reset(self) -> None:
        """Forget what was seen."""


class Networks(Protocol):
    """The built-in's module `networks`, or the one that is brought for it."""

    available_networks: dict[str, Any]
    available_network_aliases: dict[str, Any]
    available_network_hash_lookup: dict[str, Any]
    forbidden_network_aliases: dict[str, int]
    loaded_networks: list[Any]
    extra_network_lora: Network
    originals: Any  # the built-in's patches of torch

    def list_available_networks(self) -> None:
        """List the files anew."""

    def network_restore_weights_from_backup(self, layer: nn.Module) -> None:
        """Take out what the built-in has put into a layer."""

    def network_reset_cached_weight(self, layer: nn.Module) -> None:
        """Make it look at the layer again."""


CacheGroup = MutableMapping[str, dict[str, Any]]  # of the WebUI's cache: a database, or a dictionary
Card = dict[str, Any]  # an item of an extra-networks page
ExtraNetworkData = Mapping[str, list[Params]]  # the tags of a prompt, by their kind
