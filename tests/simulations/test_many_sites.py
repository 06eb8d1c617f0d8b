"""What a simulation of very many sites writes: samples in pictures, and no flush at each site."""

import os
from pathlib import Path

import numpy as np
import pytest

from fedtransfer.client.data import SPLITS, SiteData
from fedtransfer.client.node import Node
from fedtransfer.common.config.config import RunConfig
from fedtransfer.common.head.head import load_head
from fedtransfer.common.wire.protocol import Task
from fedtransfer.simulations import federation
from fedtransfer.simulations.federation import plot_partition


def site(number: int) -> SiteData:
    labels = {split: np.array(["a"] * number, np.str_) for split in SPLITS}
    return SiteData({split: [] for split in SPLITS}, labels, 0, 0, {}, lambda moments: None)  # type: ignore[arg-type,return-value]


@pytest.mark.parametrize(("sites", "drawn"), [(3, 3), (4, 3)])
def test_a_picture_of_very_many_sites_has_a_sample_and_says_so(
    tmp_path: Path, sites: int, drawn: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown = {}

    def draw(
        path: Path, counts: np.ndarray, rows: list[str], columns: object, title: str, axes: object
    ) -> None:
        shown.update(counts=counts.tolist(), rows=rows, title=title)

    monkeypatch.setattr(federation, "save_heat_map", draw)
    monkeypatch.setattr(federation, "_MOST_SITES", 3)
    plot_partition({f"site-{k}": site(k) for k in range(sites)}, ["a"], tmp_path / "p.png", hidden=False)
    assert len(shown["rows"]) == drawn
    assert shown["rows"] == sorted(set(shown["rows"])), "different ones, in order"
    assert shown["counts"] == [[2 * int(name[-1])] for name in shown["rows"]], "each has its own numbers"
    assert ("(a random sample of 3 of 4 sites)" in shown["title"]) == (drawn < sites)


def test_a_simulated_site_keeps_its_head_without_a_flush(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A hundred thousand flushes would take longer than all else."""
    flushed: list[int] = []
    monkeypatch.setattr(os, "fsync", flushed.append)
    head = (np.ones((3, 2), np.float32), np.zeros(2, np.float32))
    task = Task("anna", 1, ("a", "b"), head)
    Node("", tmp_path / "anna").keep(task, RunConfig(), "f" * 64, 7)
    assert not flushed
    kept, classes, fingerprint = load_head(tmp_path / "anna" / "head.npz")
    assert [array.tolist() for array in kept] == [array.tolist() for array in head]
    assert (classes, fingerprint) == (("a", "b"), "f" * 64)
