"""The graph of SecAgg+: which sites share masks, and how many sites may fail.

Bell et al. 2020 (eprint 2020/704): n sites are on a ring in random order, and each shares masks
with its k neighbours, k/2 on either side. A site's secrets are shared among its neighbours, and t
shares recover a secret. If c sites collude with the server, two things must hold:

- 2t > k + c. An honest neighbour reveals one kind of share of a site, a colluding neighbour reveals
  both kinds. So the server gets at most k + c shares, too few for both the site's pad and its key.
- If d sites fail, every site has at least t neighbours left, and the graph of the remaining honest
  sites is connected. Otherwise the server would get totals of its parts. A ring falls apart only if
  k/2 sites in a row are missing.

Up to 32 sites, every site shares masks with every other, and both hold with certainty. With more
sites, k is the smallest number for which the probability that the second fails is below 2^-40, for
d sites drawn at random. The probability is bounded by n times the hypergeometric tail for too few
neighbours, plus n times the chance that k/2 given sites in a row are among the d + c missing. The
order of the ring follows from the hash of all keys, so the server does not choose it, but it could
try keys of colluding sites until it gets an order that it likes.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

from fedtransfer.common.config.settings.everything import Settings
from fedtransfer.common.errors import UserError

ALL_UP_TO = 32
FAILURE = 2.0**-40
LEAST = 3  # sites in a total: of two sites, each would learn the other's answer


@dataclass(frozen=True)
class Graph:
    """The numbers of a graph."""

    sites: int  # n
    neighbours: int  # k, the neighbours of each site
    threshold: int  # t, the number of shares that recover a secret
    least: int  # the number of sites that must be in a total; n - ``least`` may fail
    # The number of sites that must sign the list of survivors. It is more than (n + c) / 2, so only
    # one list can reach it.
    quorum: int

    def ring(self, names: Sequence[str], order: bytes) -> "Ring":
        """Return the ring of n sites, in an order that follows from ``order``."""
        ring = sorted(names, key=lambda name: hashlib.sha256(order + name.encode()).digest())
        return Ring(self.neighbours, tuple(ring), {name: i for i, name in enumerate(ring)})


@dataclass(frozen=True)
class Ring:
    """Sites in the order of the ring."""

    neighbours: int  # k, the neighbours of each site
    names: tuple[str, ...]  # of the sites, in the order of the ring
    place: Mapping[str, int]  # site → its index in ``names``

    def around(self, site: str) -> tuple[str, ...]:
        """Return a site's neighbours, in name order."""
        at, sites = self.place[site], len(self.names)
        if self.neighbours == sites - 1:
            return tuple(sorted({*self.names} - {site}))
        steps = range(1, self.neighbours // 2 + 1)
        return tuple(sorted(self.names[(at + way * step) % sites] for step in steps for way in (1, -1)))


def least_sites(cohort: int, config: Settings) -> int:
    """Return the least number of sites in a total: --min-sites, or two thirds; 3 at least."""
    return max(LEAST, config.min_sites or -(-2 * cohort // 3))


def graph(sites: int, config: Settings) -> Graph:
    """Return the graph of ``sites`` sites. Raises UserError: no threshold is safe for them."""
    return _graph(sites, least_sites(sites, config), config.colluding_sites)


@lru_cache(maxsize=128)
def _graph(sites: int, wanted: int, colluding: int) -> Graph:
    k = everyone = sites - 1
    if sites > ALL_UP_TO:
        sparse = (k for k in range(2, everyone, 2) if sites - _may_fail(sites, k, colluding) <= wanted)
        k = next(sparse, everyone)
    may_fail = _may_fail(sites, k, colluding)
    quorum = (sites + colluding) // 2 + 1
    if sites < wanted or may_fail < 0:
        raise UserError(
            f"masks: {sites} sites, {k} of which share masks with each, "
            f"{colluding} of them colluding (--colluding-sites), leave no threshold that is safe; "
            f"{wanted} are needed; let more sites take part"
        )
    return Graph(sites, k, _threshold(k, colluding), max(wanted, quorum, sites - may_fail), quorum)


def _threshold(k: int, colluding: int) -> int:
    return (k + min(colluding, k)) // 2 + 1


def _may_fail(n: int, k: int, colluding: int) -> int:
    """Return the most sites that may fail; -1 if the graph is unsafe without any failure."""
    t = _threshold(k, colluding)
    if k == n - 1:
        return max(k - t, -1)
    low, high = -1, n
    while high - low > 1:
        d = (low + high) // 2
        low, high = (d, high) if _fails(n, k, t, d, colluding) <= FAILURE else (low, d)
    return low


def _fails(n: int, k: int, t: int, d: int, colluding: int) -> float:
    """Bound the probability that a site keeps fewer than t neighbours, or the ring falls apart."""
    from scipy.stats import hypergeom

    missing, gap = min(n, d + colluding), 1.0
    for i in range(k // 2):
        gap *= max(0, missing - i) / (n - i)
    return n * (float(hypergeom.cdf(t - 1, n - 1, max(0, n - 1 - d), k)) + gap)
