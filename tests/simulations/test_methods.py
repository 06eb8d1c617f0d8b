"""The list of methods: complete, and its bytes those of real messages."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedtransfer.common.config.config import RunConfig
from fedtransfer.common.errors import UserError
from fedtransfer.common.head.head import HeadSpec, initial_head
from fedtransfer.common.head.metrics import Counts
from fedtransfer.common.methods import METHODS, ONE_SHOT
from fedtransfer.common.methods.method import RIDGES, Sizes
from fedtransfer.common.wire.protocol import CONTROL, Sums, Task, Trial, Update
from fedtransfer.common.wire.records import pack
from fedtransfer.common.wire.sums import layout
from fedtransfer.simulations.methods import ROWS, WIDTHS, row, sizes

ROOT = Path(__file__).resolve().parents[2]
ENVELOPE = 2048


def packed(value: Any) -> int:
    from flwr.common.serde import recorddict_to_proto

    return int(recorddict_to_proto(pack(value)).ByteSize())


def method(ask: str) -> Any:
    return next(method for method in ROWS if method.ask == ask)


def test_every_method_is_in_the_table_once() -> None:
    listed = [method.ask for method in ROWS]
    assert listed[: len(METHODS)] == [f"--strategy {name}" for name in METHODS]
    assert len(set(listed)) == len(listed)


def test_what_is_asked_for_are_options_there_are() -> None:
    options = [
        word for method in ROWS for word in method.ask.replace(",", "").split() if word.startswith("--")
    ]
    assert {option[2:] for option in options} <= set(RunConfig().to_flat())


@pytest.mark.parametrize("name", [name for name in METHODS if name not in ONE_SHOT])
@given(d=st.integers(1, 600), c=st.integers(2, 30))
def test_bytes_of_a_round_are_those_of_its_messages(name: str, d: int, c: int) -> None:
    size, classes = Sizes(d, c, 1, 0), tuple(f"class {i}" for i in range(c))
    head = initial_head(HeadSpec(d, c), 0)
    extra = {CONTROL: head} if METHODS[name].control_variates else {}
    counts = Counts.empty(c)
    task = Task("site-0", 1, classes, head, extra=extra)
    update = Update(1, "f" * 64, "0" * 16, counts, counts, 5, head, extra)
    for value, bytes_of in ((task, METHODS[name].down), (update, METHODS[name].up)):
        assert 0 <= packed(value) - bytes_of(size) <= ENVELOPE + 40 * c, (
            "class names and counts stand around the head"
        )


@given(d=st.integers(1, 300), c=st.integers(2, 30))
def test_bytes_of_sums_are_those_of_their_messages(d: int, c: int) -> None:
    size = Sizes(d, c, 1, 0)
    kinds = {f"--strategy {name}": METHODS[name].sums for name in ONE_SHOT} | {
        "--standardise federated": "moments"
    }
    for ask, kind in kinds.items():
        sent = packed(
            Sums(0, "f" * 64, "0" * 16, 5, tuple(np.zeros(shape, t) for t, shape in layout(kind, d, c)))
        )
        assert 0 <= sent - method(ask).up(size) <= ENVELOPE, ask


def test_bytes_of_a_trial_are_those_of_its_message() -> None:
    size, classes = Sizes(256, 10, 1, 0), tuple("abcdefghij")
    trial = Trial("site-0", 0, classes, (initial_head(HeadSpec(256, 10), 0),) * RIDGES, (1.0, 2.0))
    down, _ = method("--strategy fed3r").before
    assert 0 <= packed(trial) - down(size) <= ENVELOPE


def test_bytes_of_a_whole_run() -> None:
    size = sizes("resnet50v2", 10, 50)
    assert row(method("--strategy fedavg"), size)["bytes_up"] == 50 * 81_960
    assert row(method("--strategy fedavg"), size)["bytes_down"] == 52 * 81_960, (
        "scored and delivered in the end"
    )
    assert row(method("--strategy fed3r"), size)["bytes_up"] == 8 * (2049 * 2050 // 2 + 2049 * 10)
    begun = row(method("--init fedncm|fed3r|fedcof|robust-lda"), size)
    both = (
        row(method("--strategy fedavg"), size)["bytes_up"] + row(method("--strategy fed3r"), size)["bytes_up"]
    )
    assert begun["bytes_up"] == both


@pytest.mark.run
@pytest.mark.parametrize("name", ["resnet18v2-tinyimagenet", "resnet50v2"])
def test_sizes_of_backbones_are_those_of_the_networks(name: str) -> None:
    from fedtransfer.common.backbone.backbone import load_backbone
    from fedtransfer.common.tensorflow import keras

    make = keras.applications.ResNet50V2 if name == "resnet50v2" else None  # its weights need not be there
    network = make(include_top=False, weights=None, pooling="avg") if make else load_backbone(name).network
    assert network.output_shape[-1] == WIDTHS[name]
    convolutions = [
        one
        for one in network.layers
        if isinstance(one, keras.layers.Conv2D) and one.name.startswith("conv5_")
    ]
    assert sum(one.count_params() for one in convolutions) == sizes(name, 10, 1).stage


def test_an_unknown_backbone_is_refused_with_the_known_ones() -> None:
    with pytest.raises(UserError, match="did you mean 'resnet50v2'"):
        sizes("resnet50", 10, 100)


@pytest.mark.process
def test_the_command_lists_all_without_tensorflow() -> None:
    code = (
        "import sys; sys.argv[1:] = ['methods', '--classes', '100', '--backbone', 'resnet50v2', '--json']\n"
        "import fedtransfer.cli\ntry: fedtransfer.cli.main()\nexcept SystemExit as e: assert not e.code\n"
        "assert not {'tensorflow', 'keras', 'flwr', 'ray', 'sklearn', 'matplotlib'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    rows = json.loads(done.stdout)
    assert len(rows) == len(ROWS)
    assert rows[0]["bytes_up_a_round"] == 819_600
