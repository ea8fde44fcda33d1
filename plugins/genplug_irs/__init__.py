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
        ),
        EvaluatorSpec(
            name="measurement-gap",
            summary="what real data lacks of the ideal IRS, for every extractor and distance",
            config="genplug_irs.config:MeasurementGapConfig",
            inputs=("extractors", "held_out", "train"),
            scores={"measurement-gap": "lower"},
        ),
        EvaluatorSpec(
            name="retrieval-agreement",
            summary="do extractors retrieve the same training images for real ones: pairs, consensus, shares",
            config="genplug_irs.config:RetrievalAgreementConfig",
            inputs=("extractors", "held_out", "train"),
            scores={
                "retrieval-agreement": "higher",
                "retrieval-consensus": "higher",
                "retrieval-share": "higher",
            },
        ),
    ]


@hookimpl
def register_commands(app):
    from genplug_irs.commands import irs

    app.add_typer(irs, name="irs")
