"""Recompute the golden files `edm2_*`: network, sampler, loss, post-hoc EMA, latent normalisation."""

from __future__ import annotations

from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from genplug.checkpoints import load_strict
from genplug.denoiser import PixelCodec
from genplug.ema import (
    PowerFunctionEMA,
    exp_to_std,
    power_function_beta,
    power_function_correlation,
    power_function_response,
    solve_posthoc_coefficients,
    std_to_exp,
)
from genplug_edm2.codecs import StabilityVae
from genplug_edm2.loss import draw_sigma, edm2_loss
from genplug_edm2.network import Precond
from genplug_samplers.edm import Churn, edm_sigmas, heun

_X_STD = "x std of the output"


def recompute(golden: Any) -> dict[str, Tensor]:
    """Return every output by its full key."""
    cases = {
        "edm2_unet": _unet,
        "edm2_tiny_snapshot": _snapshot,
        "edm2_sampler": _sampler,
        "edm2_loss": _loss,
        "edm2_phema": _phema,
        "edm2_stability_vae_encode": _latents,
    }
    found: dict[str, Tensor] = cases[golden.meta["name"]](golden)
    return found


def verdict(golden: Any, key: str, got: Tensor, expected: Tensor) -> tuple[float, float, str]:
    """Return error, tolerance and its unit, by the rules of the reference data."""
    name, difference = golden.meta["name"], (got.double() - expected.double()).abs()
    worst = float(difference.max())
    scale = (
        float(expected.double().std(correction=0)) if expected.numel() > 1 else float(expected.abs().max())
    )
    if name == "edm2_phema":
        return _phema_verdict(key, difference, expected)
    if name == "edm2_stability_vae_encode":
        return worst, 0.0 if expected.dtype == torch.int64 else 1e-6, "absolute"
    if "/grad/" in key:
        return worst / float(expected.abs().max()), 2e-4, "x max"
    if "sigma" in key:
        return float((difference / expected.double().abs()).max()), 1e-6, "relative"
    if "logvar" in key:
        return worst / max(scale, float(expected.abs().max()) * 1e-2), 5e-5, _X_STD
    loose = {"edm2_sampler": 2e-4}.get(name, 5e-5)
    if name == "edm2_tiny_snapshot" and not key.endswith("_fp32"):
        loose = 5e-3  # computed with float16 gains
    return worst / scale, loose, _X_STD


def _phema_verdict(key: str, difference: Tensor, expected: Tensor) -> tuple[float, float, str]:
    if key == "out/ema_tracked":
        return float(difference.max()), 1e-5, "absolute"
    if "posthoc_coefs" in key:
        return float(difference.max()), 1e-9 if key.startswith("out64/") else 1e-6, "absolute"
    relative = (difference / expected.double().abs().clamp(min=1e-300)).where(difference > 0, 0.0)
    return float(relative.max()), 1e-9 if key.startswith("out64/") else 1e-6, "relative"


def _network(golden: Any, name: str = "net") -> Precond:
    spec = golden.meta["nets"][name]
    net = Precond(**spec["kwargs"])
    load_strict(net, golden.part(f"weights/{spec.get('prefix', '')}"), name)
    return net.eval()


@torch.no_grad()
def _unet(golden: Any) -> dict[str, Tensor]:
    net, given = _network(golden), golden.part("in/")
    x, sigma, labels = given["x"], given["sigma"], given.get("labels")
    found = {
        "out/D_x": net(x, sigma, labels),
        "out/D_x_uncond": net(x, sigma, None),
        "out/F_x": net.raw(x, sigma, labels),
        "out/logvar": net(x, sigma, labels, return_logvar=True)[1],
    }
    if labels is not None:
        found["out/D_x_softlabel"] = net(x, sigma, torch.full_like(labels, 0.25))
    return found


@torch.no_grad()
def _snapshot(golden: Any) -> dict[str, Tensor]:
    found = _unet(golden)
    return found | {"out/D_x_fp32": found["out/D_x"], "out/logvar_fp32": found["out/logvar"]}


def _sampler(golden: Any) -> dict[str, Tensor]:
    found: dict[str, Tensor] = {}
    for run, options in golden.meta["runs"].items():
        samples, calls = _sample(golden, run, options)
        found |= {f"out/{run}": samples, f"out/sigma_calls_{run}": calls}
    return found


class _Given:
    """Noise draws as given in the file, one per churn-active step."""

    def __init__(self, draws: Tensor, steps: list[int]) -> None:
        self.draws = dict(zip(steps, draws, strict=True))

    def normal(self, shape: tuple[int, ...], step: int) -> Tensor:
        return self.draws[step]


def _sample(golden: Any, run: str, options: Mapping[str, Any]) -> tuple[Tensor, Tensor]:
    """Sample one run; the second result is the noise level of every call of the main network."""
    given, settings = golden.part("in/"), {**golden.meta["sampler_defaults"], **options}
    net, labels = _network(golden, "net"), given.get("labels")
    guidance = float(settings["guidance"])
    guide = _network(golden, "gnet") if guidance != 1 else None
    calls: list[float] = []

    def denoise(x: Tensor, sigma_N: Tensor) -> Tensor:
        calls.append(float(sigma_N[0]))
        D: Tensor = net(x, sigma_N, labels)
        return D if guide is None else torch.lerp(guide(x, sigma_N, labels), D, guidance)

    sigmas = edm_sigmas(settings["num_steps"], settings["sigma_min"], settings["sigma_max"], settings["rho"])
    churn = Churn(*(float(settings[key]) for key in ("S_churn", "S_min", "S_max", "S_noise")))
    noise = _Given(given["churn_noise"], golden.meta["churn_active_steps"]) if settings["S_churn"] else None
    return heun(denoise, given["noise"] * sigmas[0], sigmas, noise, churn), torch.tensor(calls)


def _loss(golden: Any) -> dict[str, Tensor]:
    given, options = golden.part("in/"), golden.meta["loss_kwargs"]
    sigma_N = draw_sigma(given["rnd_normal"], options["P_mean"], options["P_std"]).flatten()
    net = _network(golden)

    def loss() -> Tensor:
        return edm2_loss(
            net, given["images"], sigma_N, given["noise"], given.get("labels"), options["sigma_data"]
        )

    with torch.no_grad():
        found = {"out/sigma": sigma_N, "out/loss": loss()}
    net.train()
    trained = loss()
    trained.sum().backward()
    parameters = dict(net.named_parameters())
    found["out/loss_train"] = trained.detach()
    found |= {f"out/grad/{key}": _gradient(parameters[key]) for key in golden.meta["grad_keys"]}
    return found | {f"out/weight_after/{key}": parameters[key].detach() for key in golden.meta["after_keys"]}


def _gradient(parameter: Tensor) -> Tensor:
    assert parameter.grad is not None
    return parameter.grad


def _phema(golden: Any) -> dict[str, Tensor]:
    given, config = golden.part("in/"), golden.meta["config"]
    stds, posthoc, response = config["std"], config["posthoc"], config["response"]
    exact = {
        "exp": std_to_exp(stds),
        "std_roundtrip": exp_to_std(std_to_exp(stds)),
        "beta": np.stack([power_function_beta(std, config["t_next"], config["t_delta"]) for std in stds]),
        "response": power_function_response(response["ofs"], response["std"], response["len"]),
        "correlation": power_function_correlation(
            *(values for side in "ab" for values in _profiles(posthoc, side)),
        ),
        "posthoc_coefs": solve_posthoc_coefficients(
            posthoc["in_ofs"], posthoc["in_std"], posthoc["out_ofs"], posthoc["out_std"]
        ),
    }
    tensors = {key: torch.as_tensor(value, dtype=torch.float64) for key, value in exact.items()}
    found = {f"out64/{key}": value for key, value in tensors.items()}
    found |= {f"out/{key}": value.float() for key, value in tensors.items()}
    return found | {"out/ema_tracked": _tracked(given["theta"], config["track_stds"], config["track_batch"])}


def _profiles(posthoc: Mapping[str, Any], side: str) -> tuple[Any, Any]:
    """Return offsets and lengths as a column (side a) or a row (side b)."""
    shape = (-1, 1) if side == "a" else (1, -1)
    return tuple(
        torch.tensor(posthoc[key], dtype=torch.float64).reshape(shape).numpy() for key in ("in_ofs", "in_std")
    )  # type: ignore[return-value]


def _tracked(theta: Tensor, stds: list[float], batch: int) -> Tensor:
    module = torch.nn.Module()
    module.register_parameter("theta", torch.nn.Parameter(theta[0].clone()))
    average = PowerFunctionEMA(module, stds)
    for number, value in enumerate(theta, 1):
        with torch.no_grad():
            module.theta.copy_(value)  # type: ignore[union-attr, operator]
        average.update(module, number * batch, batch)
    return torch.stack([copy.theta.detach() for copy in average.averages().values()])  # type: ignore[union-attr]


@torch.no_grad()
def _latents(golden: Any) -> dict[str, Tensor]:
    given = golden.part("in/")
    seen: dict[str, Tensor] = {}
    vae = StabilityVae(_Vae(given, seen), **golden.meta.get("vae_kwargs", {}))
    pixels = given["pixels"].to(torch.uint8)
    decoded = vae.decode(given["vae_final_in"])
    vae.posterior(pixels)
    return {
        "out/vae_final": vae.standardise(given["vae_raw"], given["vae_noise"]),
        "out/vae_scale": vae.scale_C,
        "out/vae_bias": vae.bias_C,
        "out/vae_decode_raw": seen["decoded"],
        "out/vae_decode_uint8": decoded.long(),
        "out/vae_encoder_input": seen["encoded"],
        "out/rgb_final": PixelCodec().encode(pixels),
        "out/rgb_decode_uint8": PixelCodec().decode(given["rgb_float"]).long(),
    }


class _Vae:
    """Stands in for the autoencoder: keeps what it was given, answers with tensors of the file."""

    def __init__(self, given: Mapping[str, Tensor], seen: dict[str, Tensor]) -> None:
        self.given, self.seen = given, seen

    def encode(self, x: Tensor) -> dict[str, Any]:
        self.seen["encoded"] = x
        mean, std = self.given["vae_raw"].chunk(2, dim=1)
        return {"latent_dist": SimpleNamespace(mean=mean, std=std)}

    def decode(self, z: Tensor) -> dict[str, Tensor]:
        self.seen["decoded"] = z
        return {"sample": self.given["vae_decoder_output"]}
