"""Which sites are set aside for some rounds because they failed again and again."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

FAILURES = 3  # in a row, after which a site is set aside …
ROUNDS = 5  # … for so many rounds


@dataclass(frozen=True)
class Standing:
    """Every site's record.

    Attributes:
        failures: site → failures since its last usable answer.
        back: site → the first round in which it may be drawn again.
    """

    failures: Mapping[str, int] = field(default_factory=dict)
    back: Mapping[str, int] = field(default_factory=dict)

    def set_aside(self, round: int) -> dict[str, int]:
        """Return the sites that are not drawn in a round, with the round in which they may be again."""
        return {site: back for site, back in sorted(self.back.items()) if back > round}

    def after(self, round: int, answered: Iterable[str], failed: Iterable[str]) -> "Standing":
        """Return the record after a round: an answer clears a site, the third failure in a row sets it aside."""
        failures, back = dict(self.failures), dict(self.back)
        for site in answered:
            failures.pop(site, None)
            back.pop(site, None)
        for site in failed:
            failures[site] = failures.get(site, 0) + 1
            if failures[site] >= FAILURES:
                back[site] = round + 1 + ROUNDS
        return Standing(failures, back)
