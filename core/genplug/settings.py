"""What a run is, as pydantic models: the `[run]` section and the rules of the others."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from genplug.config import Options


class RunSettings(Options):
    """The `[run]` section: what is sampled and judged, and how much of it."""

    seed: int = Field(
        0, ge=0, le=2**20 - 1, description="seeds everything: training, pools, selection, report"
    )
    samples: int = Field(1000, ge=1, description="samples per seed block")
    blocks: int = Field(
        3, ge=1, le=64, description="seed blocks; the spread of a score is measured over them"
    )
    batch_size: int = Field(250, ge=1, description="samples per batch of sampling and feature extraction")
    classes: Literal["balanced", "random"] = Field("balanced", description="how labels belong to seeds")
    extractors: tuple[str, ...] = Field(("pixels",), description="feature extractors, one set of scores each")
    evaluators: tuple[str, ...] = Field((), description="evaluators by name")
    evaluate_each: bool = Field(False, description="evaluate after each objective, not only the last")
    control: bool = Field(
        False, description="judge also what the last objective's compute gives without its method"
    )
    tradeoff: tuple[str, ...] = Field(
        (),
        description="scores that a sweep draws: the first against each of the others, on equal features",
    )
    quantise: bool = Field(
        True, description="round generated images to the data set's grey levels before scoring"
    )
    precision: Literal["no", "bf16"] = Field("no", description="mixed precision of training")
    skip_bad: bool = Field(False, description="leave out images that cannot be read, and count them")
    mixed_sizes: bool = Field(
        False, description="judge images of different sizes: each is resized by the extractor itself"
    )


class RuntimeSettings(Options):
    """The `[runtime]` section: where it runs. Results do not depend on it beyond float tolerance."""

    device: Literal["auto", "cpu"] = Field("auto", description="auto: an accelerator if there is one")
    processes: int = Field(1, ge=1, description="processes on this machine (as --processes)")
    threads: int = Field(0, ge=0, description="CPU threads per process (0: torch's default)")
    sharding: Literal["none", "full"] = Field(
        "none",
        description="full: several processes share out the weights, gradients, averages and optimiser "
        "of a training (FSDP)",
    )
