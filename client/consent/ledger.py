"""The ledger of a site: ``site-privacy.jsonl``, which records what it spent.

It has the releases that the site's training images have been part of, over all runs. A reply that
reveals something about the images is charged, and its line written, before the reply leaves. No
line is ever taken back: a round that is repeated is another release. What several runs cost
together is exact if nobody chose the noise of one run by what an earlier run released.
"""

import json
import math
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from fedtransfer.common.config.config import RunConfig
from fedtransfer.common.errors import SiteError, UserError
from fedtransfer.common.privacy.accounting import Release, Spent, epsilon
from fedtransfer.common.privacy.guarantee import guarantee
from fedtransfer.common.support.files import Line, append_line, read_lines, rename_ledger
from fedtransfer.common.wire.protocol import GATHER, QUERY, TRAIN, Request, Task

FILE = "site-privacy.jsonl"
EARLIER_FILE = "privacy.jsonl"
_STEP = 1.1


@dataclass(frozen=True)
class SiteLedger:
    """The ledger of one site.

    With ``durable`` a charge is on the disk when ``charge`` returns. Only simulated sites do
    without: after a power cut their run is repeated, and what was spent has left no machine.
    """

    path: Path
    durable: bool = True

    @classmethod
    def open(cls, folder: Path, *, durable: bool = True) -> "SiteLedger":
        """Open the ledger in a site's folder.

        A ledger of an earlier version is renamed, never forgotten.

        Raises:
            UserError: there are two ledgers, or the old one cannot be renamed.
        """
        rename_ledger(folder / EARLIER_FILE, folder / FILE)
        return cls(folder / FILE, durable)

    def charge(
        self, kind: str, run: str, round: int, release: Release, times: int, clip: float, *,
        unit: str = "image", name: str = "",
    ) -> None:  # fmt: skip
        """Record ``times`` releases that are about to leave the site in a message of type ``kind``.

        A run has Flower's number, and may have a ``name``, the same over restarts. In each release,
        a noisy sum, the share of a ``unit`` (``image`` or ``site``) is clipped to norm ``clip``.

        Raises:
            UserError: the line cannot be written; what it pays for must not leave.
        """
        message = {"time": time.time(), "run": run, "name": name, "round": round, "what": kind, "unit": unit}
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            row = {**message, **asdict(release), "times": times, "clip": clip}
            append_line(self.path, row, durable=self.durable)
        except OSError as error:
            raise UserError(
                f"{self.path}: cannot write the privacy ledger: {error.strerror}; the reply is not sent. "
                "Make room, or give access"
            ) from None

    def charges(self) -> Iterator[dict[str, Any]]:
        """Yield the charges, oldest first, without torn lines: what these pay for had not left.

        Raises:
            UserError: the file cannot be read, or a line is damaged, so what was spent is unknown.
        """
        for number, line in enumerate(self._lines(), 1):
            if line.row is not None and _is_charge(line.row):
                yield line.row
            elif not line.is_torn:
                raise UserError(
                    f"{self.path}: line {number} is damaged: expected a charge, "
                    "so what was spent is unknown. Restore the file from a backup"
                )

    def spent(self) -> Spent:
        """Return how often each release that protects images was made; raises as ``charges``."""
        spent: Counter[Release] = Counter()
        for charge in self.charges():
            if charge.get("unit", "image") == "image":
                release = Release(**{field.name: charge[field.name] for field in fields(Release)})
                spent[release] += charge["times"]
        return spent

    def rounds(self, run: str, name: str) -> int:
        """Return the number of charges of a run, given by its number, or by its name over restarts.

        Every reply needs this number, so lines are searched and not parsed. Torn ones do not count.

        Raises:
            UserError: the file cannot be read.
        """
        texts = [f'"run": {json.dumps(run)}', f'"name": {json.dumps(name)}'][: 2 if name else 1]
        marks = [text.encode() for text in texts]
        lines = (line.content.rstrip(b"\n") for line in self._lines())
        return sum(line.endswith(b"}") and any(mark in line for mark in marks) for line in lines)

    def _lines(self) -> Iterator[Line]:
        try:
            yield from read_lines(self.path)
        except OSError as error:
            raise UserError(
                f"{self.path}: cannot read the privacy ledger: {error.strerror}; give access"
            ) from None


def charge_reply(ledger: SiteLedger, config: RunConfig, kind: str, run: str, request: Request) -> None:
    """Charge what a reply reveals about the site, if the site's own noise protects it.

    Call it before the reply to a ``request`` of type ``kind`` leaves.

    Raises:
        SiteError: the run has had all rounds that its promise covers.
        UserError: the charge cannot be written.
    """
    promise = guarantee(config) if config.dp == "image" or config.noise == "shared" else None
    if promise is None or kind not in (TRAIN, GATHER):
        return
    name = request.run if isinstance(request, Task) else ""
    if ledger.rounds(run, name) >= promise.affordable:
        raise SiteError(
            "promise-spent",
            f"this site has given {promise.affordable} noisy answers to this run, repeated ones included, "
            "and the run's promise covers no more; start a run with more rounds, or with more noise",
        )
    noisy = (promise.release, promise.releases, promise.clip)
    ledger.charge(kind, run, request.round, *noisy, unit=promise.unit, name=name)


def refuse_beyond_budget(
    ledger: SiteLedger, bound: float, delta: float, config: RunConfig, kind: str
) -> None:
    """Refuse a message if its run and all earlier runs would exceed the site's bound on ε.

    A query asks for all planned rounds, unless the run resumes an earlier one; any other message
    asks for one round.

    ``bound`` is the ε at δ = ``delta`` that all runs together may spend; 0 or infinite: no bound.

    Raises:
        SiteError: the run would exceed the bound; the text reveals nothing about the images.
        UserError: what was spent is unknown.
    """
    if bound in (0, math.inf):
        return
    promise = guarantee(config) if config.dp == "image" else None
    if promise is None:
        raise SiteError(
            "budget-spent",
            f"this site lets all runs together spend epsilon {bound:g} at delta {delta:g} on an image, "
            "and what this run would spend has no bound; give --dp image",
        )
    if kind not in (QUERY, TRAIN, GATHER):
        return
    rounds = promise.rounds if kind == QUERY and not config.resume else 1
    spent = Counter(ledger.spent())
    spent[promise.release] += rounds * promise.releases
    # A quick bound, since rounded numbers of releases repeat; only beyond it the exact ε is needed.
    rounded_up = {release: math.ceil(_STEP ** math.ceil(math.log(n, _STEP))) for release, n in spent.items()}
    if epsilon(rounded_up, delta) > bound and (together := epsilon(spent, delta)) > bound:
        alone = epsilon({promise.release: rounds * promise.releases}, delta)
        raise SiteError(
            "budget-spent",
            f"this site lets all runs together spend epsilon {bound:g} at delta {delta:g} on an image; "
            f"this run asks for {alone:.3g}, which makes {together:.3g} with earlier runs; "
            "give more noise, or fewer rounds",
        )


def _is_charge(row: dict[str, Any]) -> bool:
    try:
        return row["rate"] + row["noise_multiplier"] + row["times"] > 0 and "discrete" in row
    except (KeyError, TypeError):
        return False
