"""A configuration whose module imports torch, which makes every listing slow."""

import torch

from genplug_broken.config import Part

DTYPE = torch.float32


class Lazy(Part):
    pass
