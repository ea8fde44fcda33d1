"""Recompute every output of a metrics golden file that genplug's metric maths covers.

`recompute(inputs, meta)` takes the `in/...` tensors and the parsed JSON metadata of a file in the format of
`metrics_a.safetensors`; sizes, seeds, k and cases come from the keys and the metadata. `compare(key, got,
expected)` applies the tolerance of the key. No key is left to others: `out_of_scope(key)` is always false.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor

from genplug_distances.exact import Cosine, Euclidean
from genplug_irs import occupancy, stirling
from genplug_irs import statistics as irs
from genplug_metrics import filters, memorisation, mmd, vendi
from genplug_metrics.fd_infinity import fd_infinity
from genplug_metrics.frechet import Frechet, fit_gaussian, frechet_from_features
from genplug_metrics.inception_score import Convention, inception_scores, parts
from genplug_metrics.prdc import prdc, radii, realism
from genplug_metrics.sliced import moments, sliced_wasserstein

Meta = Mapping[str, Any]
OTHER_METRICS: tuple[str, ...] = ()

# first match wins: pattern of the key without "out/", then (rtol, atol)
TOLERANCES: list[tuple[str, float, float]] = [
    (r"frechet_libs", 1e-6, 0),  # one of the libraries was given float32 statistics
    (r"frechet_small", 1e-6, 0),
    (r"frechet_self", 0, 1e-9),
    (r"frechet|mu_|cov_", 1e-9, 1e-12),
    (r"(ties_)?prdc_|improved_pr_", 0, 1e-12),
    (r"radius_|realism_", 1e-10, 0),
    (r"knn_.*_dist", 1e-9, 0),
    (r"fd_infinity|fdinf_points", 1e-7, 0),
    (r"kid_rbf", 1e-8, 0),
    (r"kid_|is_|ct|zu_|sw_approx", 1e-9, 0),
    (r"authpct", 0, 1e-9),
    (r"vendi_cosine_libs", 2e-5, 0),  # the sample form of one library was given float32
    (r"vendi_.*_q0p5", 1e-5, 0),
    (r"vendi_trace_normalised", 1e-8, 0),
    (r"vendi_(unnormalised|poly)", 1e-6, 0),
    (r"vendi_", 1e-7, 0),
    (r"filter_", 0, 1e-12),
    (r"irs_alpha|irs_adjusted", 1e-12, 0),
    (r"irs/.*/logP", 0, 1e-9),
    (r"irs/.*/(tails|pmf_at_mle)", 1e-9, 1e-300),
    (r"stirling_log|coupon_", 1e-12, 0),
    (r"", 0, 0),
]


def out_of_scope(key: str) -> bool:
    """Tell whether the key (with or without "out/") belongs to a metric that is recomputed elsewhere."""
    name = key.removeprefix("out/")
    return any(name == other or name.startswith(other.rstrip("_") + "_") for other in OTHER_METRICS)


def tolerance(key: str) -> tuple[float, float]:
    """Return (rtol, atol) of a key."""
    name = key.removeprefix("out/")
    return next((rtol, atol) for pattern, rtol, atol in TOLERANCES if re.match(pattern, name))


def compare(key: str, got: Tensor, expected: Tensor) -> bool:
    """Tell whether an output is within its tolerance, with equal shape."""
    rtol, atol = tolerance(key)
    if got.shape != expected.shape:
        return False
    return bool(torch.allclose(got.double(), expected.double(), rtol=rtol, atol=atol))


def recompute(inputs: dict[str, Tensor], meta: Meta) -> dict[str, Tensor]:
    """Return the outputs in scope as `out/...` tensors; scalars have shape [1]."""
    text = meta["description"]
    described = [key.removeprefix("out/") for key in text if key.startswith("out/")]
    found = [
        _frechet(inputs),
        _balls(inputs, _numbers(described, r"(?:prdc|improved_pr|radius_real|realism|ties_prdc)_k(\d+)")),
        _neighbours(inputs, text),
        _extrapolation(inputs),
        _kernel_distances(inputs, text),
        _vendi(inputs, described),
        _inception_scores(inputs, text),
        _sliced(inputs),
        _filters(inputs, described),
        _memorisation(inputs),
        _irs_cases(inputs, meta),
        _irs_pipeline(inputs),
        _irs_published(inputs, meta),
    ]
    return {f"out/{key}": value for part in found for key, value in part.items()}


def _numbers(keys: Iterable[str], pattern: str) -> list[int]:
    return sorted({int(m.group(1)) for key in keys if (m := re.fullmatch(pattern, key))})


def _f64(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def _frechet(inputs: dict[str, Tensor]) -> dict[str, Tensor]:
    real, fake = inputs["in/real"], inputs["in/fake"]
    d: Frechet = frechet_from_features(real, fake)
    small = frechet_from_features(inputs["in/fd_small_real"], inputs["in/fd_small_fake"])
    fitted = {"real": fit_gaussian(real), "fake": fit_gaussian(fake)}
    return {
        "frechet": _f64(d.value),
        "frechet_mean_term": _f64(d.mean_term),
        "frechet_cov_term": _f64(d.cov_term),
        "frechet_libs": _f64(*[d.value] * 6),
        "frechet_small": _f64(small.value),
        "frechet_self": _f64(frechet_from_features(real, real).value),
        **{f"mu_{name}": g.mu_D for name, g in fitted.items()},
        **{f"cov_{name}": g.cov_DD for name, g in fitted.items()},
    }


def _balls(inputs: dict[str, Tensor], ks: list[int]) -> dict[str, Tensor]:
    out: dict[str, Tensor] = {}
    for prefix, names in (("", ("in/real", "in/fake")), ("ties_", ("in/ties_real", "in/ties_fake"))):
        real, fake = (inputs[name] for name in names)
        for suffix, strict in (("", True), ("_le", False)):
            for k, score in prdc(real, fake, ks, convention="<" if strict else "<=").items():
                four = _f64(score.precision, score.recall, score.density, score.coverage)
                name = f"{prefix}prdc{suffix}_k{k}" if prefix or strict else f"improved_pr_k{k}"
                out[name] = four if prefix or strict else four[:2]
    for name in ("real", "fake"):
        r_NK = radii(inputs[f"in/{name}"], ks)
        out |= {f"radius_{name}_k{k}": r_NK[:, c] for c, k in enumerate(ks)}
    return out | {f"realism_k{k}": realism(inputs["in/real"], inputs["in/fake"], k) for k in ks}


def _extrapolation(inputs: dict[str, Tensor]) -> dict[str, Tensor]:
    fake = inputs["in/fake"][inputs["in/fdinf_perm"]]
    found = fd_infinity(fake, fit_gaussian(inputs["in/real"]), inputs["in/fdinf_sizes"].tolist())
    return {"fd_infinity": _f64(found.value), "fdinf_points": found.distances_S}


def _kernel_distances(inputs: dict[str, Tensor], text: Mapping[str, str]) -> dict[str, Tensor]:
    real, fake = inputs["in/real"], inputs["in/fake"]
    rows = inputs["in/kid_idx_real"], inputs["in/kid_idx_fake"]
    sigma = _stated(r"2\*([\d.]+)\^2", text["out/kid_rbf_subset_mean"], 10.0)
    whole, drawn = mmd.mmd(real, fake), mmd.subset_mmd(real, fake, *rows)
    return {
        "kid_full_unbiased": _f64(whole.unbiased),
        "kid_full_biased": _f64(whole.biased),
        "kid_subsets": drawn.values_S,
        "kid_subset_mean": _f64(drawn.mean),
        "kid_subset_std": _f64(drawn.std),
        "kid_rbf_subset_mean": _f64(mmd.subset_mmd(real, fake, *rows, mmd.Gaussian(sigma)).mean),
    }


def _vendi(inputs: dict[str, Tensor], described: Iterable[str]) -> dict[str, Tensor]:
    """Vendi scores; the two kernels without unit trace are computed as libraries do, for comparison only."""
    fake, labels_N = inputs["in/fake"], inputs["in/fake_labels"]
    cosine = {name: vendi.spectrum(inputs[f"in/{name}"]) for name in ("real", "fake")}
    out = {f"vendi_cosine_{name}": _f64(vendi.vendi(one)) for name, one in cosine.items()}
    for key in described:
        if found := re.fullmatch(r"vendi_cosine_(\w+)_q(\d+p\d+|\d+|inf)", key):
            out[key] = _f64(vendi.vendi(cosine[found[1]], float(found[2].replace("p", "."))))
    classes = [vendi.vendi(vendi.spectrum(fake[labels_N == c])) for c in labels_N.unique()]
    unit_ND, wide_ND = torch.nn.functional.normalize(fake.double()), fake.double()
    raw, poly = (_kernel_entropy(K_NN) for K_NN in (wide_ND @ wide_ND.T, mmd.KID(unit_ND, unit_ND)))
    return out | {
        "vendi_cosine_libs": out["vendi_cosine_fake"].repeat(5),
        "vendi_per_class_fake": _f64(*classes),
        "vendi_trace_normalised_fake": _f64(vendi.vendi(vendi.spectrum(fake, "linear"))),
        "vendi_unnormalised_log_fake": _f64(raw),
        "vendi_unnormalised_fake": _f64(math.exp(raw)),
        "vendi_poly_fake": _f64(math.exp(poly)),
    }


def _kernel_entropy(K_NN: Tensor) -> float:
    lam_N = torch.linalg.eigvalsh(K_NN / len(K_NN))
    return vendi.entropy(lam_N[lam_N > vendi.CUT])


def _inception_scores(inputs: dict[str, Tensor], text: Mapping[str, str]) -> dict[str, Tensor]:
    logits, order = inputs["in/is_logits"], inputs["in/is_perm"]
    n, splits = len(logits), int(_stated(r"over (\d+) splits", text["out/is_balanced"], 10))

    def scores(shuffled: bool, convention: Convention, splits: int = splits) -> Tensor:
        return inception_scores(logits[order] if shuffled else logits, parts(n, splits, convention))

    def mean_std(values_S: Tensor, correction: int = 0) -> Tensor:
        return torch.stack([values_S.mean(), values_S.std(correction=correction)])

    return {
        "is_balanced": mean_std(scores(True, "balanced")),
        "is_balanced_noshuffle": mean_std(scores(False, "balanced")),
        "is_splits_noshuffle": scores(False, "balanced"),
        "is_ceil_noshuffle": mean_std(scores(False, "ceil"), 1),
        "is_truncated": mean_std(scores(True, "truncated")),
        "is_one_split": scores(False, "balanced", 1),
    }


def _sliced(inputs: dict[str, Tensor]) -> dict[str, Tensor]:
    real, fake = (moments(inputs[f"in/{name}"]) for name in ("real", "fake"))
    return {"sw_approx": _f64(sliced_wasserstein(real, fake))}


def _filters(inputs: dict[str, Tensor], described: Iterable[str]) -> dict[str, Tensor]:
    image = inputs["in/filter_image"].double()
    height, width = image.shape[-2:]
    made: dict[str, Callable[..., Tensor]] = {
        "low": lambda t: filters.low_pass(image, t),
        "high": lambda t: filters.high_pass(image, t),
        "band": lambda low, high: filters.band_pass(image, low, high),
        "mask_low": lambda t: filters.low_mask(height, width, t),
    }
    found = [re.fullmatch(r"filter_(\D+)((?:_\d+)+)", key) for key in described]
    return {m[0]: made[m[1]](*map(int, m[2][1:].split("_"))) for m in found if m}


def _memorisation(inputs: dict[str, Tensor]) -> dict[str, Tensor]:
    train, test, fake = (inputs[f"in/{name}"] for name in ("real", "test", "fake"))
    cells = memorisation.Cells(*(inputs[f"in/ct_cells_{name}"] for name in ("train", "test", "fake")))
    found = memorisation.c_t(train, test, fake, cells)
    return {
        "authpct": 100 * memorisation.authentic(train, fake).double().mean()[None],
        "ct": _f64(found.value),
        "ct_zu_cells": found.z_C,
        "zu_global": _f64(memorisation.z_u(train, test, fake)),
    }


def _neighbours(inputs: dict[str, Tensor], description: Mapping[str, str]) -> dict[str, Tensor]:
    real, fake = inputs["in/real"], inputs["in/fake"]
    out: dict[str, Tensor] = {}
    for name, distance in (("euclidean", Euclidean()), ("cosine", Cosine())):
        k = int(_stated(r"the (\d+) nearest", description[f"out/knn_{name}_idx"], 5))
        d_Nk, i_Nk = distance.index(real).search(fake, k)
        out |= {f"knn_{name}_idx": i_Nk, f"knn_{name}_dist": d_Nk}
        out[f"n_learned_{name}"] = torch.tensor([torch.unique(i_Nk[:, 0]).numel()])
    return out | {"irs_alpha_euclidean": out["n_learned_euclidean"] / _f64(len(real))}


def _stated(pattern: str, text: str, otherwise: float) -> float:
    """Return the number that a description states, such as k in 'indices of the 5 nearest real rows'."""
    found = re.search(pattern, text)
    return float(found.group(1)) if found else otherwise


def _irs_cases(inputs: dict[str, Tensor], meta: Meta) -> dict[str, Tensor]:
    out: dict[str, Tensor] = {}
    for key, value in inputs.items():
        if key.startswith("in/irs/"):
            out |= {f"{key.removeprefix('in/')}/{name}": t for name, t in _irs_case(*value.tolist()).items()}
        elif key.startswith("in/kmin/"):
            _, n, s = value.tolist()
            k_min = [irs.k_min(n, s, alpha) for alpha in (0.05, 0.01)]
            out[key.removeprefix("in/")] = torch.tensor([*k_min, *(k - 1 for k in k_min)])
    fractions = [irs.coupon_expected_fraction(n, N) for N, n, _ in meta["irs_cases"]]
    return out | {"coupon_expected_fraction": _f64(*fractions)}


def _irs_case(N: int, n: int, k: int) -> dict[str, Tensor]:
    seen, r5, r1 = (
        occupancy.Observation(k, n),
        irs.estimate_reach(k, n, N, 0.05),
        irs.estimate_reach(k, n, N, 0.01),
    )
    grid = torch.unique(torch.linspace(k, N, min(400, N - k + 1), dtype=torch.float64).long())
    s_hat = r5.s_hat
    tails = [seen.p_at_most(s_hat), seen.p_at_least(s_hat)]
    tails += [seen.p_at_least(r5.s_low), seen.p_at_most(r5.s_high)]
    return {
        "est": torch.tensor([s_hat, r5.s_low, r5.s_high, r1.s_low, r1.s_high]),
        "s": grid,
        "logP": _f64(*(seen.log_p(int(s)) for s in grid)),
        "tails": _f64(*tails),
        "pmf_at_mle": occupancy.pmf(n, s_hat).p,
    }


def _irs_pipeline(inputs: dict[str, Tensor]) -> dict[str, Tensor]:
    train, test, fake = (inputs[f"in/{name}"] for name in ("real", "test", "fake"))
    N, n = len(train), min(len(test), len(fake))
    index = Euclidean().index(train)
    reach = [_reach(index.search(queries[:n], 1)[1], n, N) for queries in (test, fake)]
    numbers = [number for r in reach for number in (r.k, r.s_hat, r.s_low, r.s_high)]
    ratio = irs.adjusted_score(reach[1].k, reach[0].k, n, N, draws=2).value
    return {"irs_pipeline_int": torch.tensor([N, n, *numbers]), "irs_adjusted": _f64(ratio)}


def _reach(i_n1: Tensor, n: int, N: int) -> irs.Reach:
    return irs.estimate_reach(int((irs.retrieval_counts(i_n1, N) > 0).sum()), n, N, 0.05)


def _irs_published(inputs: dict[str, Tensor], meta: Meta) -> dict[str, Tensor]:
    """Published examples and Stirling numbers; the k_min anchor is the ImageNet example of the paper."""
    rows = []
    for N, n, k in meta["config"]["anchors"]:
        r = irs.estimate_reach(k, n, N)
        rows.append([N, n, k, r.s_hat, r.s_low, r.s_high])
    N, n = 1_281_166, 50_000
    s = int(0.8 * N)
    k_min = irs.k_min(n, s)
    pairs = inputs["in/stirling_nk"].tolist()
    return {
        "irs_paper_anchors": torch.tensor(rows),
        "irs_kmin_anchor": torch.tensor([N, n, s, k_min, k_min - 1]),
        "stirling_log_exact": _f64(*(stirling.log_stirling2(a, b) for a, b in pairs)),
        "stirling_log_temme": _f64(*(stirling.log_stirling2_temme(a, b) for a, b in pairs)),
    }
