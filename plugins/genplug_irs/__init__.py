"""Image Retrieval Score: which share of the training images a generator can reach (arXiv 2411.16171)."""

from genplug import EvaluatorSpec, hookimpl


@hookimpl
def register_evaluators():
    return [
        EvaluatorSpec(
            name="irs",
            summary="Image Retrieval Score: share of training images within reach, and relative to real data",
            config="genplug_irs.config:IrsConfig",
            inputs=("samples", "features", "held_out", "train"),
            scores={"irs": "higher", "irs-alpha": "higher", "irs-adjusted": "higher"},
        )
    ]
