import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from small_network import shared_backbone

from fedtransfer.common.backbone.cut import cut, cuts
from fedtransfer.common.config.config import RunConfig
from fedtransfer.common.head.cost import costs
from fedtransfer.common.head.head import HeadSpec, deepen, initial_head
from fedtransfer.common.head.schedule import layer_at, layers, schedule
from fedtransfer.common.support.text import size


@given(st.lists(st.integers(2, 100), unique=True, max_size=5), st.integers(1, 100))
def test_a_round_trains_what_the_last_step_before_it_says(rounds: list[int], number: int) -> None:
    steps = {first: f"conv{9 - i}_block1" for i, first in enumerate(sorted(rounds))}
    config = RunConfig(unfreeze_at=", ".join(f"{first}:{layer}" for first, layer in steps.items()))
    assert layers(config) == ("head", *steps.values())
    passed = [steps[first] for first in steps if first <= number]
    assert layer_at(config, number) == (passed[-1] if passed else "head")
    assert layer_at(config, 0) == "head"


def test_without_steps_all_rounds_train_the_same() -> None:
    config = RunConfig(trainable="conv5")
    assert schedule(config) == ((1, "conv5"),)
    assert layer_at(config, 100) == "conv5"


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("conv5", "got 'conv5'; expected ROUND:LAYER, as in 20:conv5_block2,40:conv5"),
        ("20:conv5,", "got ''; expected"),
        ("-3:conv5", "got '-3:conv5'; expected"),
        ("1:conv5", "got round 1 after round 1 in a run of 100; rounds must rise, from 2"),
        ("30:conv5_block2,20:conv5", "got round 20 after round 30"),
        ("101:conv5", "got round 101 after round 1 in a run of 100"),
        ("20:head", "head is trained from the start"),
        ("20:conv5,30:conv5", "conv5 is trained from the start or named twice"),
    ],
)
def test_steps_that_cannot_be(text: str, why: str) -> None:
    with pytest.raises(ValueError, match=f"unfreeze-at: {why}"):
        schedule(RunConfig.model_construct(**RunConfig().model_dump() | {"unfreeze_at": text}))


@pytest.mark.parametrize("hidden", [0, 5])
def test_deeper_arrays_are_pretrained_ones_before_those_trained_so_far(hidden: int) -> None:
    backbone = shared_backbone()
    above = [parts.above for parts in cuts(backbone, ["head", "conv4_block2", "conv3"])]
    head, block, stage = (HeadSpec(8, 3, hidden, above=part) for part in above)
    for spec in (head, block, stage):
        assert tuple(array.shape for array in initial_head(spec, 7)) == spec.shapes
    trained = tuple(array + 1 for array in initial_head(head, 7))
    once = deepen(trained, head, block)
    changed = tuple(array + 1 for array in once)
    twice = deepen(changed, block, stage)
    for got, expected in zip(once, (*cut(backbone, "conv4_block2").above.pretrained, *trained), strict=True):
        np.testing.assert_array_equal(got, expected)
    added = len(stage.shapes) - len(block.shapes)
    for got, expected in zip(twice, (*initial_head(stage, 7)[:added], *changed), strict=True):
        np.testing.assert_array_equal(got, expected)
    with pytest.raises(ValueError, match="does not end in"):
        deepen(twice, stage, block)


def test_costs_are_told_for_each_step() -> None:
    config = RunConfig(unfreeze_at="20:conv4_block2,40:conv3", hidden_units=5)
    head, block, stage = costs(config, shared_backbone(), 3, 1000)
    assert (head.round, head.layer, head.parameters, head.image) == (1, "head", 8 * 5 + 5 + 5 * 3 + 3, 4 * 8)
    assert (block.round, block.parameters, block.image) == (
        20,
        head.parameters + 2 * 3 * 3 * 8 * 8,
        4 * 2 * 2 * 8,
    )
    assert (stage.message, stage.image) == (4 * stage.parameters, 4 * 8 * 8 * 4)
    assert (stage.stored, stage.memory) == (1000 * (1024 + 32), 1000 * 1024)
    for fact in ("40", "conv3", "3,483", "13.9 KB", "1.02 KB", "1.06 MB", "1.02 MB", "1,000"):
        assert fact in str(stage)
    for fact in ("round 1", "63 ", "252 bytes"):
        assert fact in str(head)


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (0, "0 bytes"),
        (999, "999 bytes"),
        (999.7, "1 KB"),
        (1966080000, "1.97 GB"),
        (5e15, "5e+03 TB"),
        (32768, "32.8 KB"),
    ],
)
def test_sizes_in_words(number: float, text: str) -> None:
    assert size(number) == text
