"""Conditions: each kind can be taken from, joined and made absent."""

from __future__ import annotations

import pytest
import torch

from genplug import Condition

KINDS = {
    "labels": Condition(labels_N=torch.tensor([3, 1, 2])),
    "weights": Condition(weights_NK=torch.eye(3)),
    "features": Condition(features_ND=torch.arange(6.0).reshape(3, 2)),
    "prompts": Condition(prompts=("a", "b", "c")),
    "none": Condition(count=3),
}
INDICES = {
    "slice": slice(1, None),
    "rows": torch.tensor([1, 2]),
    "mask": torch.tensor([False, True, True]),
}


def same(a: Condition, b: Condition) -> bool:
    values = [(getattr(a, name), getattr(b, name)) for name in ("labels_N", "weights_NK", "features_ND")]
    tensors = all(torch.equal(x, y) if x is not None and y is not None else x is y for x, y in values)
    return tensors and a.prompts == b.prompts and len(a) == len(b)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("index", INDICES)
def test_taking_and_joining_gives_the_whole(kind: str, index: str) -> None:
    whole = KINDS[kind]
    rest = whole.take(INDICES[index])
    assert len(rest) == 2
    assert same(Condition.cat([whole.take(slice(0, 1)), rest]), whole)


@pytest.mark.parametrize("kind", KINDS)
def test_the_absent_condition_keeps_the_count(kind: str) -> None:
    null = KINDS[kind].null()
    assert null.is_null
    assert len(null) == 3
    assert KINDS[kind].is_null == (kind == "none")


@pytest.mark.parametrize("kind", KINDS)
def test_moving_changes_nothing(kind: str) -> None:
    assert same(KINDS[kind].to("cpu"), KINDS[kind])


def test_rows_are_taken_in_their_order() -> None:
    index = torch.tensor([2, 0, 2])
    assert KINDS["prompts"].take(index).prompts == ("c", "a", "c")
    labels_N = KINDS["labels"].take(index).labels_N
    assert labels_N is not None
    assert labels_N.tolist() == [2, 3, 2]


def test_a_condition_has_one_kind() -> None:
    with pytest.raises(ValueError, match="one kind, not labels_N and prompts"):
        Condition(labels_N=torch.zeros(1), prompts=("a",))
    with pytest.raises(ValueError, match="needs its count"):
        Condition()
    with pytest.raises(ValueError, match="different kinds"):
        Condition.cat([KINDS["labels"], KINDS["none"]])
