"""Who shares masks with whom, and how many sites may fail: the graph of SecAgg+.

Bell et al. 2020 (eprint 2020/704): each of n sites shares masks with k others, neighbours on a ring of k/2 at either
side, the ring in random order. A site's secrets are shared among its neighbours, t of which give one back. What must
hold, c sites telling the server all they know:

- 2t > k + c: a neighbour tells one kind of share of a site, a colluding one both, so at most k + c are told, too few for
  both the site's own pad and its key.
- With d sites failing, at least t neighbours of every site are left, and the rest hangs together, honest sites that is
  (else the server gets totals of its parts). A ring falls apart only where k/2 sites in a row are missing.

Up to 32 sites all share masks with all, and both hold for sure. Beyond, k is the least for which both fail with
probability below 2^-40 together, for d sites drawn at random: the first by the hypergeometric tail times n, the second by
n times the chance of k/2 given sites in a row to be among the d + c missing. The order of the ring follows from the
hash of all keys, so the server does not choose it; but it could try keys of colluding sites until it likes the order.
Against a server that does, let all share masks with all (``mask_neighbours`` as many as there are sites).
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

from fedtransfer.common.config.settings.everything import Settings
from fedtransfer.common.errors import UserError

ALL_UP_TO = 32
FAILURE = 2.0**-40
LEAST = 3  # sites of a total: of two, each learns what the other sent


@dataclass(frozen=True)
class Graph:
    """The numbers of a graph.

    Attributes:
        sites: n.
        neighbours: k of each site.
        threshold: t, shares that give a secret back.
        least: sites that must be in a total; n - ``least`` may fail.
        quorum: sites that must say whose sum it is to be. More than (n + c) / 2, so no two lists get as many.
    """

    sites: int
    neighbours: int
    threshold: int
    least: int
    quorum: int

    def ring(self, names: Sequence[str], order: bytes) -> "Ring":
        """Put n sites into an order that follows from ``order``."""
        ring = sorted(names, key=lambda name: hashlib.sha256(order + name.encode()).digest())
        return Ring(self.neighbours, tuple(ring), {name: i for i, name in enumerate(ring)})


@dataclass(frozen=True)
class Ring:
    """Sites in the order of the ring.

    Attributes:
        neighbours: k of each.
        names: of the sites, in that order.
        place: site → where it is in it.
    """

    neighbours: int
    names: tuple[str, ...]
    place: Mapping[str, int]

    def around(self, site: str) -> tuple[str, ...]:
        """Return a site's neighbours, in name order."""
        at, sites = self.place[site], len(self.names)
        if self.neighbours == sites - 1:
            return tuple(sorted({*self.names} - {site}))
        steps = range(1, self.neighbours // 2 + 1)
        return tuple(sorted(self.names[(at + way * step) % sites] for step in steps for way in (1, -1)))


def least_sites(asked: int, config: Settings) -> int:
    """Return how many of the sites asked must be in a total: --min-sites, or two thirds; at least 3."""
    return max(LEAST, config.min_sites or -(-2 * asked // 3))


def graph(sites: int, config: Settings) -> Graph:
    """Return the graph of so many sites.

    Raises:
        UserError: so few sites, or so many colluding, leave no safe threshold.
    """
    return _graph(sites, least_sites(sites, config), config.mask_neighbours, config.colluding_sites)


@lru_cache(maxsize=128)
def _graph(sites: int, wanted: int, neighbours: int, colluding: int) -> Graph:
    everyone = sites - 1
    k = min(neighbours, everyone) if neighbours else everyone if sites <= ALL_UP_TO else 0
    if k < everyone:
        k -= k % 2
        search = range(k, k + 1) if k else range(2, everyone, 2)
        k = next((k for k in search if sites - _may_fail(sites, k, colluding) <= wanted), k or everyone)
    may_fail = _may_fail(sites, k, colluding)
    quorum = (sites + colluding) // 2 + 1
    if sites < wanted or may_fail < 0:
        raise UserError(
            f"masks: {sites} sites, {k} of which share masks with each, {colluding} of them colluding (--colluding-sites), leave "
            f"no threshold that is safe; {wanted} are needed; let more sites take part, or set --mask-neighbours higher"
        )
    return Graph(sites, k, _threshold(k, colluding), max(wanted, quorum, sites - may_fail), quorum)


def _threshold(k: int, colluding: int) -> int:
    return (k + min(colluding, k)) // 2 + 1


def _may_fail(n: int, k: int, colluding: int) -> int:
    """Return the largest number of sites that may fail; -1 where even none is safe."""
    t = _threshold(k, colluding)
    if k == n - 1:
        return max(k - t, -1)
    low, high = -1, n
    while high - low > 1:
        d = (low + high) // 2
        low, high = (d, high) if _fails(n, k, t, d, colluding) <= FAILURE else (low, d)
    return low


def _fails(n: int, k: int, t: int, d: int, colluding: int) -> float:
    """Return a bound of the probability that some site has fewer than t neighbours left, or the ring falls apart."""
    from scipy.stats import hypergeom

    missing, gap = min(n, d + colluding), 1.0
    for i in range(k // 2):
        gap *= max(0, missing - i) / (n - i)
    return n * (float(hypergeom.cdf(t - 1, n - 1, max(0, n - 1 - d), k)) + gap)
