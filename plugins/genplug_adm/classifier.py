"""ADM's classifiers of noised images, asked at noise levels sigma, and their published sizes.

    sizes = CLASSIFIERS[64]
    classifier = NoisyClassifier(EncoderUNetModel(**sizes.network()), sizes.noise())
    logits_NK = classifier(x_NCHW, sigma_N)              # x = clean + sigma * noise

Shapes: N batch, C channels, H W pixels, K classes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from torch import Tensor, nn

from genplug_adm.schedule import DiscreteNoise, ScheduleName

ATTENDED = (32, 16, 8)  # grids with attention, in cells a side


class NoisyClassifier(nn.Module):
    """A network of (x_t, timestep) as one of (x, sigma): logits = network(x / sqrt(1 + sigma^2), t(sigma)).

    With `fractional` the timestep is interpolated in ln sigma, else it is the nearest.
    """

    def __init__(self, network: nn.Module, noise: DiscreteNoise, fractional: bool = False) -> None:
        super().__init__()
        self.network, self.noise, self.fractional = network, noise, fractional

    def forward(self, x_NCHW: Tensor, sigma_N: Tensor) -> Tensor:
        """Return logits NK of x = clean + sigma * noise."""
        index_N = self.noise.fractional_timestep(sigma_N)
        scale_N = (1 + sigma_N**2).rsqrt()
        x_t = x_NCHW * scale_N.reshape(-1, *(1 for _ in x_NCHW.shape[1:]))
        logits_NK: Tensor = self.network(x_t, index_N if self.fractional else index_N.round().long())
        return logits_NK


@dataclass(frozen=True)
class ClassifierSizes:
    """A published classifier: its network, the schedule of its noise, and the scale that guides with it.

    `scale` multiplies grad ln p in the class-conditional model's sampling (guided-diffusion's README).
    """

    image_size: int
    channel_mult: tuple[float, ...]
    depth: int
    schedule: ScheduleName
    scale: float
    width: int = 128
    classes: int = 1000

    def network(self) -> dict[str, Any]:
        """Return the arguments of `EncoderUNetModel`."""
        return {
            "image_size": self.image_size,
            "in_channels": 3,
            "model_channels": self.width,
            "out_channels": self.classes,
            "num_res_blocks": self.depth,
            "attention_resolutions": tuple(self.image_size // grid for grid in ATTENDED),
            "channel_mult": self.channel_mult,
            "num_head_channels": 64,
            "use_scale_shift_norm": True,
            "resblock_updown": True,
            "pool": "attention",
        }

    def noise(self) -> DiscreteNoise:
        """Return the noise levels that it was trained on."""
        return DiscreteNoise.of(self.schedule, 1000)


#: By image size.
CLASSIFIERS: Mapping[int, ClassifierSizes] = MappingProxyType(
    {
        64: ClassifierSizes(64, (1, 2, 3, 4), depth=4, schedule="cosine", scale=1.0),
        128: ClassifierSizes(128, (1, 1, 2, 3, 4), depth=2, schedule="linear", scale=0.5),
        256: ClassifierSizes(256, (1, 1, 2, 2, 4, 4), depth=2, schedule="linear", scale=1.0),
        512: ClassifierSizes(512, (0.5, 1, 1, 2, 2, 4, 4), depth=2, schedule="linear", scale=4.0),
    }
)


def classifier_options(image_size: int) -> dict[str, Any]:
    """Return the arguments of `EncoderUNetModel` for the published classifier of an image size."""
    return CLASSIFIERS[image_size].network()
