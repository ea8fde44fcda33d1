"""What genplug promises its users of any generator and evaluator, tested on these."""

from genplug.testing import EvaluatorSuite, GeneratorSuite


class TestMlp(GeneratorSuite):
    name = "example-mlp"


class TestMlpOfTheDigits(GeneratorSuite):
    name = "example-mlp"
    options = {"preset": "example-mlp.digits"}


class TestInk(EvaluatorSuite):
    name = "example-ink"
