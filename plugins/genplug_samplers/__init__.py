"""Samplers of the EDM family: Heun and Euler over the EDM noise schedule, with optional churn."""

from genplug import SamplerSpec, hookimpl


@hookimpl
def register_samplers():
    return [
        SamplerSpec(
            name="heun",
            summary="second-order Heun with churn (EDM, algorithm 2)",
            config="genplug_samplers.config:HeunConfig",
            tiny={"steps": 4},
        ),
        SamplerSpec(
            name="euler",
            summary="first-order Euler with churn",
            config="genplug_samplers.config:EulerConfig",
            tiny={"steps": 4},
        ),
    ]
