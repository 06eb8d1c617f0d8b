"""The picture of a run whose sites send no scores."""

from pathlib import Path
from typing import Any

import pytest

from fedtransfer.server.run_folder import plots


def drawn(history: list[dict[str, str]], monkeypatch: pytest.MonkeyPatch) -> Any:
    figures: list[Any] = []
    monkeypatch.setattr(plots, "save_figure", lambda figure, path: figures.append(figure))
    plots.plot_curves(history, 3, Path("curves.png"))
    return figures[0]


def row(number: int, accuracy: str, epsilon: str, phase: str = "train") -> dict[str, str]:
    scores = dict.fromkeys(("accuracy", "loss", "validation_accuracy", "validation_loss"), accuracy)
    return {"round": str(number), "phase": phase, "status": "ok", "epsilon": epsilon, **scores}


def test_without_scores_it_is_what_was_spent(monkeypatch: pytest.MonkeyPatch) -> None:
    (axes,) = drawn([row(1, "", "0.5"), row(2, "", "0.8")], monkeypatch).axes
    assert [tuple(point) for point in axes.lines[0].get_xydata()] == [(1, 0.5), (2, 0.8)]
    (axes,) = drawn([row(0, "", "2", "sums")], monkeypatch).axes
    assert [tuple(point) for point in axes.lines[0].get_xydata()] == [(0, 2)]


def test_with_public_scores_it_is_these(monkeypatch: pytest.MonkeyPatch) -> None:
    left, right = drawn(
        [row(1, "0.1", "0.5"), row(2, "0.4", "0.8"), row(3, "0.5", "", "score")], monkeypatch
    ).axes
    assert left.lines[0].get_ydata().tolist() == [0.1, 0.4, 0.5]
    assert right.get_title().startswith("Cross-entropy")
