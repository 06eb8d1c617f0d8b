"""Thresholds, dropouts and the ring."""

import numpy as np
import pytest
from masked_sites import masked_config

from fedtransfer.common.errors import UserError
from fedtransfer.common.masks.graph import FAILURE, Graph, graph, least_sites


@pytest.mark.parametrize("colluding", [0, 1, 5])
@pytest.mark.parametrize("sites", [10, 20, 32, 33, 60, 100, 400])
def test_what_must_hold_does(sites: int, colluding: int) -> None:
    made = graph(sites, masked_config(sites, colluding_sites=colluding))
    k, t = made.neighbours, made.threshold
    assert 2 * t > k + min(colluding, k), "both kinds of share of one site are never together"
    assert 2 * made.quorum > sites + colluding, "two lists of survivors never both have a quorum"
    assert made.least >= max(3, -(-2 * sites // 3), made.quorum)
    if k == sites - 1:
        assert made.least - 1 >= t, "with the most dropouts a site has t neighbours left"
    else:
        assert sites > 32
        assert k % 2 == 0


def test_up_to_32_sites_all_share_masks_with_all() -> None:
    assert [graph(n, masked_config(n)).neighbours for n in (3, 32)] == [2, 31]
    assert graph(100, masked_config(100)).neighbours < 99


def test_a_sparse_graph_keeps_its_promise_in_drawn_dropouts() -> None:
    """Half the dropouts more than allowed show failures; those allowed none in 2,000 draws."""
    sites = 100
    made, rng = graph(sites, masked_config(sites)), np.random.default_rng(0)
    steps = [s for k in range(1, made.neighbours // 2 + 1) for s in (k, -k)]

    def worst(dropouts: int, draws: int) -> np.ndarray:
        left = rng.permuted(np.tile(np.arange(sites) >= dropouts, (draws, 1)).astype(np.int8), axis=1)
        return sum(np.roll(left, step, axis=1) for step in steps).min(1)

    allowed = sites - made.least
    assert (worst(allowed, 2000) >= made.threshold).all()
    assert (worst(allowed + allowed // 2, 50) < made.threshold).any()


def test_the_chance_of_failure_is_bounded_by_exact_enumeration() -> None:
    """The bound for one more dropout is above 2^-40, for those allowed below."""
    from fedtransfer.common.masks.graph import _fails, _may_fail

    assert _may_fail(100, 40, 0) == max(d for d in range(100) if _fails(100, 40, 21, d, 0) <= FAILURE)


def test_neighbours_are_mutual_k_each_and_follow_from_the_keys() -> None:
    names = [f"s{i}" for i in range(51)]
    ring = Graph(51, 8, 5, 40, 26).ring(names, b"keys")
    around = {name: ring.around(name) for name in names}
    for name, others in around.items():
        assert len(set(others)) == 8
        assert name not in others
        assert list(others) == sorted(others)
        assert all(name in around[other] for other in others)
    assert {name: Graph(51, 8, 5, 40, 26).ring(names[::-1], b"keys").around(name) for name in names} == around
    assert {name: Graph(51, 8, 5, 40, 26).ring(names, b"other keys").around(name) for name in names} != around


def test_a_ring_hangs_together_whoever_is_missing_but_for_gaps_of_half_the_neighbours() -> None:
    names = [f"s{i}" for i in range(60)]
    ring, rng = Graph(60, 12, 7, 40, 31).ring(names, b"keys"), np.random.default_rng(1)
    for _ in range(50):
        left = set(rng.choice(names, 40, replace=False))
        reached, border = set(), {min(left)}
        while border:
            reached |= border
            border = {other for name in border for other in ring.around(name) if other in left} - reached
        places = sorted(ring.place[name] for name in left)
        gaps = [(b - a) % 60 for a, b in zip(places, [*places[1:], places[0]], strict=True)]
        assert (reached == left) or max(gaps) > 6


def test_too_many_colluding_sites_leave_no_threshold() -> None:
    with pytest.raises(UserError, match="no threshold that is safe"):
        graph(4, masked_config(9, colluding_sites=3))
    with pytest.raises(UserError, match="3 sites, 2 of which share masks with each"):
        graph(3, masked_config(9, min_sites=4))


def test_a_total_is_over_min_sites_or_two_thirds_and_three_at_least() -> None:
    assert [least_sites(n, masked_config(n)) for n in (3, 4, 10, 100)] == [3, 3, 7, 67]
    assert least_sites(10, masked_config(10, min_sites=9)) == 9
