"""The blocks of the EDM2 U-Net by their published names (Karras et al. 2024, arXiv 2312.02696, Fig. 21)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple


class Place(NamedTuple):
    """Where a block stands: its published name and its job. Input widths follow from the order."""

    name: str
    width: int  # of its output
    resample_mode: Literal["keep", "up", "down"] = "keep"
    attention: bool = False
    takes_skip: bool = False


def encoder_places(levels: Sequence[tuple[int, int]], depth: int, attended: Sequence[int]) -> list[Place]:
    """List the encoder's blocks for levels of (grid, width), finest first: `depth` of them a level."""
    places: list[Place] = []
    for grid, width in levels:
        if places:
            places.append(Place(f"{grid}x{grid}_down", places[-1].width, "down"))
        names = (f"{grid}x{grid}_block{i}" for i in range(depth))
        places += [Place(name, width, attention=grid in attended) for name in names]
    return places


def decoder_places(levels: Sequence[tuple[int, int]], depth: int, attended: Sequence[int]) -> list[Place]:
    """List the decoder's blocks, coarsest first: one more a level than in the encoder, for its resampling."""
    coarsest, widest = levels[-1]
    places = [
        Place(f"{coarsest}x{coarsest}_in0", widest, attention=True),  # whatever `attended` says
        Place(f"{coarsest}x{coarsest}_in1", widest),
    ]
    for grid, width in reversed(levels):
        if grid != coarsest:
            places.append(Place(f"{grid}x{grid}_up", places[-1].width, "up"))
        names = (f"{grid}x{grid}_block{i}" for i in range(depth + 1))
        places += [Place(name, width, attention=grid in attended, takes_skip=True) for name in names]
    return places
