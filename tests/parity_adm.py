"""Recompute the golden files `adm_*`: U-Net, noisy classifier, diffusion process."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from genplug.checkpoints import load_strict
from genplug_adm.diffusion import Diffusion, Moments, Variance
from genplug_adm.respacing import kept_timesteps
from genplug_adm.unet import EncoderUNetModel, UNetModel

VARIANCES: Mapping[str, Variance] = {
    "learned": "learned",
    "fixedlarge": "fixed-large",
    "fixedsmall": "fixed-small",
}
ARRAYS = (
    "betas",
    "alphas_cumprod",
    "posterior_variance",
    "posterior_log_variance_clipped",
    "posterior_mean_coef1",
    "posterior_mean_coef2",
)


def recompute(golden: Any) -> dict[str, Tensor]:
    """Return every output by its full key."""
    cases = {"adm_unet": _unet, "adm_classifier": _classifier, "adm_diffusion": _diffusion}
    found: dict[str, Tensor] = cases[golden.meta["name"]](golden)
    return found


def verdict(golden: Any, key: str, got: Tensor, expected: Tensor) -> tuple[float, float, str]:
    """Return error, tolerance and its unit, by the rules of the reference data."""
    difference = (got.double() - expected.double()).abs()
    if golden.meta["name"] == "adm_diffusion":
        return _process_verdict(key, difference, expected)
    if "grad" in key:
        return float(difference.max() / expected.abs().max()), 1e-4, "x max"
    return float(difference.max() / expected.double().std(correction=0)), 5e-5, "x std of the output"


def _process_verdict(key: str, difference: Tensor, expected: Tensor) -> tuple[float, float, str]:
    if expected.dtype == torch.int64:
        return float(difference.max()), 0.0, "exact"
    if key.split("/")[-1] in ARRAYS:
        relative = difference.where(difference == 0, difference / expected.double().abs())
        return float(relative.max()), 1e-10 if key.startswith("out64/") else 1e-6, "relative"
    return float((difference / (1 + expected.double().abs())).max()), 2e-5, "x (1 + value)"


def _network(golden: Any) -> nn.Module:
    spec = golden.meta["nets"]["net"]
    net = {"UNetModel": UNetModel, "EncoderUNetModel": EncoderUNetModel}[spec["class"]](**spec["kwargs"])
    load_strict(net, golden.part(f"weights/{spec['prefix']}"), spec["class"])
    return net.eval()


@torch.no_grad()
def _unet(golden: Any) -> dict[str, Tensor]:
    net, given = _network(golden), golden.part("in/")
    x, y = given["x"], given.get("y")
    return {"out/output": net(x, given["t"], y), "out/output_float_t": net(x, given["t_float"], y)}


def _classifier(golden: Any) -> dict[str, Tensor]:
    net, given = _network(golden), golden.part("in/")
    x_NCHW = given["x"].requires_grad_()
    logits_NK = net(x_NCHW, given["t"])
    log_prob_N = logits_NK.log_softmax(1).gather(1, given["y"][:, None])[:, 0]
    (gradient,) = torch.autograd.grad(log_prob_N.sum(), x_NCHW)
    return {
        "out/logits": logits_NK.detach(),
        "out/log_prob": log_prob_N.detach(),
        "out/grad_log_prob": gradient,
    }


def _diffusion(golden: Any) -> dict[str, Tensor]:
    config, found = golden.meta["config"], {}
    for schedule in config["schedules"]:
        found |= _arrays(schedule, Diffusion.of(schedule, config["steps"]), ARRAYS)
    for spacing in config["respacings"]:
        found[f"out/timesteps_{spacing}"] = torch.tensor(kept_timesteps(config["steps"], spacing))
        process = Diffusion.of(config["main"], config["steps"], spacing, config["rescale_timesteps"])
        found |= _arrays(spacing, process, ARRAYS[:2])
        found |= {f"out/{spacing}/{key}": value for key, value in _steps(process, golden.part("in/")).items()}
    return found


def _arrays(name: str, process: Diffusion, keys: tuple[str, ...]) -> dict[str, Tensor]:
    exact = {key: torch.from_numpy(getattr(process, key)) for key in keys}
    return {f"out/{name}/{key}": value.float() for key, value in exact.items()} | {
        f"out64/{name}/{key}": value for key, value in exact.items()
    }


def _steps(process: Diffusion, given: Mapping[str, Tensor]) -> dict[str, Tensor]:
    x, t, noise, gradient = (given[key] for key in ("x_t", "t", "noise", "gradient"))
    found = {
        "model_timesteps": process.model_timesteps(t),
        "q_sample": process.q_sample(given["x_start"], t, noise),
    }
    for folder, variance in VARIANCES.items():
        moments = process.moments(given["model_output"], x, t, variance)
        loose = process.moments(given["model_output"], x, t, variance, clip=False)
        shifted = process.guided_mean(moments, gradient)
        scored = process.guided_score(moments, x, t, gradient)
        results = _moments("p_mean_variance_clip1", moments) | _moments("p_mean_variance_clip0", loose)
        results |= {
            "condition_mean": shifted,
            "condition_score/mean": scored.mean,
            "condition_score/pred_xstart": scored.x0,
            "p_sample": process.ancestral_step(moments, t, noise),
            "p_sample_guided": process.ancestral_step(moments, t, noise, shifted),
        }
        for eta in (0.0, 0.7):
            results[f"ddim_sample_eta{eta}"] = process.ddim_step(moments.x0, x, t, noise, eta)
            results[f"ddim_sample_eta{eta}_guided"] = process.ddim_step(scored.x0, x, t, noise, eta)
        found |= {f"{folder}/{key}": value for key, value in results.items()}
    return found


def _moments(name: str, moments: Moments) -> dict[str, Tensor]:
    values = {"mean": moments.mean, "variance": moments.variance, "log_variance": moments.log_variance}
    return {f"{name}/{key}": value for key, value in {**values, "pred_xstart": moments.x0}.items()}
