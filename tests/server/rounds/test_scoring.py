"""A trial's counts are those of all sites together."""

from pathlib import Path

import numpy as np
import pytest
from drawn_sites import WIDTH, Drawn, losses_of, numbers, seen, three_sites, together
from flwr.serverapp import Grid

from fedtransfer.common.backbone.backbone import configured_backbone
from fedtransfer.common.errors import SiteError, UserError
from fedtransfer.common.head.head import mix
from fedtransfer.common.wire.protocol import Trial
from fedtransfer.server.rounds.scoring import HeadScores, score_heads
from fedtransfer.server.sites.admission import Terms
from fedtransfer.server.sites.federation import join
from fedtransfer.server.sites.messenger import Messenger

DATA = three_sites()
FACTORS = (1.0, 2.0)
ENDS = tuple(
    tuple(np.random.default_rng(seed + k).normal(0, 0.5, shape).astype(np.float32) for k, shape in enumerate(((WIDTH, 3), (3,))))
    for seed in (1, 3)
)  # fmt: skip


def held(run: Drawn, trial: Trial, **settings: object) -> HeadScores:
    """Hold a trial and nothing else."""
    config, results = run.config(**settings), []

    def main(grid: Grid) -> None:
        backbone = configured_backbone(config)
        federation = join(grid, config, backbone, lambda *progress: None)
        terms = Terms.from_config(config, backbone, federation.classes)
        results.append(score_heads(Messenger(grid, config, federation, terms, run.folder, []), trial))

    run.serve(main, config)
    return results[0]


def expected(run: Drawn, data: object, heads: object, factors: tuple[float, ...]) -> HeadScores:
    """In float64, on all images together."""
    images, correct, losses = [], [], []
    for split in ("validation", "test"):
        x, labels = together(data, split)  # type: ignore[arg-type]
        z, y = seen(run.config(), x), numbers(labels, "abc")
        images.append(len(y))
        correct.append([((z @ kernel + bias).argmax(1) == y).sum() for kernel, bias in heads])  # type: ignore[attr-defined]
        losses.append([[losses_of(head, z, y, factor) for factor in factors] for head in heads])  # type: ignore[attr-defined]
    return HeadScores(np.array(images), np.array(correct).T, np.moveaxis(np.array(losses), 0, -1), tuple(sorted(data)))  # type: ignore[call-overload]


def assert_equal(found: HeadScores, wanted: HeadScores) -> None:
    np.testing.assert_array_equal(found.images, wanted.images)
    np.testing.assert_array_equal(found.correct, wanted.correct)
    np.testing.assert_allclose(found.losses, wanted.losses, rtol=1e-4)


def test_counts_are_those_on_all_images_together(tmp_path: Path) -> None:
    run = Drawn(DATA, tmp_path)
    found = held(run, Trial("", 4, ("a", "b", "c"), ENDS, FACTORS))
    assert found.losses.shape == (2, 2, 2)
    assert_equal(found, expected(run, DATA, ENDS, FACTORS))


def test_shares_stand_for_heads_between_two(tmp_path: Path) -> None:
    run, shares = Drawn(DATA, tmp_path), (0.0, 0.25, 1.0)
    found = held(run, Trial("", 4, ("a", "b", "c"), ENDS, shares=shares))
    assert_equal(found, expected(run, DATA, [mix(*ENDS, share) for share in shares], (1.0,)))


def test_a_site_without_an_answer_is_left_out_where_there_is_a_quorum_and_else_asked_again(tmp_path: Path) -> None:
    def refuse(site: str, request: object, value: object) -> object:
        if site == "carl" and isinstance(request, Trial):
            raise SiteError("tired", "no more today")
        return value

    run = Drawn(DATA, tmp_path, refuse)
    found = held(run, Trial("", 4, ("a", "b", "c"), ENDS))
    assert_equal(found, expected(run, {site: DATA[site] for site in ("anna", "bert")}, ENDS, (1.0,)))
    assert [site for site, request in run.asked if isinstance(request, Trial)].count("carl") == 1
    with pytest.raises(UserError, match=r"round 4: 2 of 3 .* 3 are (.|\n)*carl: tired"):
        held(run, Trial("", 4, ("a", "b", "c"), ENDS), min_sites=3)
    assert [site for site, request in run.asked if isinstance(request, Trial)].count("carl") == 1 + 3
