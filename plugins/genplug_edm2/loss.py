"""The training loss of EDM2: denoising error weighted by a learned uncertainty (arXiv 2312.02696, Equations
14, 21).

Shapes: N images, C channels, H W grid, K classes.
"""

from __future__ import annotations

from torch import Tensor, nn


def draw_sigma(normal_N: Tensor, P_mean: float, P_std: float) -> Tensor:
    """Noise levels ln sigma ~ N(P_mean, P_std^2) from unit normal draws, same shape."""
    return (normal_N * P_std + P_mean).exp()


def edm_weight(sigma: Tensor, sigma_data: float) -> Tensor:
    """lambda(sigma) = (sigma^2 + sigma_data^2) / (sigma sigma_data)^2: the initial loss is one everywhere."""
    return (sigma**2 + sigma_data**2) / (sigma * sigma_data) ** 2


def edm2_loss(
    net: nn.Module,
    x_NCHW: Tensor,
    sigma_N: Tensor,
    noise_NCHW: Tensor,
    labels_NK: Tensor | None,
    sigma_data: float = 0.5,
    force_fp32: bool = False,
) -> Tensor:
    """Loss per element, NCHW: lambda / exp(u) * (D(x + sigma noise; sigma) - x)^2 + u with u = u(sigma).

    `net` is a `Precond`, wrapped or not, with this `sigma_data`; `noise_NCHW` unit normal. The published
    training sums the elements and divides by the number of images.
    """
    sigma = sigma_N.reshape(-1, 1, 1, 1)
    D_NCHW, logvar = net(x_NCHW + sigma * noise_NCHW, sigma, labels_NK, force_fp32, return_logvar=True)
    loss_NCHW: Tensor = edm_weight(sigma, sigma_data) / logvar.exp() * (D_NCHW - x_NCHW) ** 2 + logvar
    return loss_NCHW
