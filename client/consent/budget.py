"""What a site's training images have been part of, over all runs, and what that costs: the site's own privacy budget.

The record is an append-only file of JSON lines. A reply that tells of the images is charged, and its line written, before
it leaves; nothing takes a line back: a round that is played again is another release.

What several runs cost together is exact where nobody chose the noise of one by what an earlier one released.
"""

import json
import math
import os
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, BinaryIO

from fedtransfer.common.config.config import RunConfig
from fedtransfer.common.errors import SiteError, UserError
from fedtransfer.common.privacy.accounting import Release, Spent, epsilon
from fedtransfer.common.privacy.guarantee import guarantee
from fedtransfer.common.wire.protocol import GATHER, QUERY, TRAIN, Request, Task

_TORN = b" torn\n"
_STEP = 1.1


@dataclass(frozen=True)
class Budget:
    """The record in a file.

    Attributes:
        path: of the file.
        durable: a line is on the disk, not only with the operating system, when ``charge`` returns.
    """

    path: Path
    durable: bool = False

    def charge(
        self, what: str, run: str, round: int, release: Release, times: int, clip: float, *, unit: str = "image",
        name: str = "",
    ) -> None:  # fmt: skip
        """Note releases that are about to leave the site.

        Args:
            what: kind of the message.
            run: Flower's number of the run.
            round: the round.
            release, times: the releases.
            clip: the norm that a unit's share in each was bounded to.
            unit: what they protect: an ``image``, or the ``site``.
            name: the run's over restarts, where it has one.

        Raises:
            UserError: the line cannot be written; what it pays for must not leave.
        """
        said = {"time": time.time(), "run": run, "name": name, "round": round, "what": what, "unit": unit}
        line = {**said, **asdict(release), "times": times, "clip": clip}
        try:
            if not self.path.parent.exists():
                self.path.parent.mkdir(parents=True)
            with self.path.open("a+b") as file:
                file.write(_end_of_torn(file) + json.dumps(line).encode() + b"\n")
                file.flush()
                if self.durable:
                    os.fsync(file.fileno())
        except OSError as error:
            raise UserError(
                f"{self.path}: cannot be written: {error.strerror}; make room, or give access: nothing leaves unaccounted"
            ) from None

    def lines(self) -> Iterator[dict[str, Any]]:
        """Yield the charges, oldest first, without what a power cut tore: what that was to pay for had not left yet.

        Raises:
            UserError: the file cannot be read, or another line is damaged, so that what was spent is not known.
        """
        for number, line in enumerate(self._content().splitlines(keepends=True), 1):
            if (charge := _charge(line)) is not None:
                yield charge
            elif line.endswith(b"\n") and not line.endswith(_TORN):
                raise UserError(
                    f"{self.path}: line {number} is no charge, so what was spent is not known; bring back the file as it was"
                )

    def spent(self) -> Spent:
        """Return all releases so far that protect images, and how often each was made.

        Raises:
            UserError: see ``lines``.
        """
        spent: Counter[Release] = Counter()
        for line in self.lines():
            if line.get("unit", "image") == "image":
                spent[Release(**{field.name: line[field.name] for field in fields(Release)})] += line["times"]
        return spent

    def rounds(self, run: str, name: str) -> int:
        """Return how many charges there are of a run, by its number or by its name over restarts.

        Each answer asks for it, so lines are not read as JSON. One that a power cut tore is none.

        Raises:
            UserError: the file cannot be read.
        """
        marks = [f'"run": {json.dumps(run)}'.encode(), *([f'"name": {json.dumps(name)}'.encode()] if name else [])]
        return sum(
            line.endswith(b"}\n") and any(mark in line for mark in marks)
            for line in self._content().splitlines(keepends=True)
        )

    def _content(self) -> bytes:
        try:
            return self.path.read_bytes() if self.path.exists() else b""
        except OSError as error:
            raise UserError(f"{self.path}: cannot be read: {error.strerror}; give access") from None


def charge_reply(budget: Budget, config: RunConfig, kind: str, run: str, request: Request) -> None:
    """Charge what a reply tells of the site, where noise of the site's own protects it; call it before it leaves.

    Args:
        budget: the site's.
        config: the run's settings, as they are at the site.
        kind: type of the message that is replied to.
        run: Flower's number of the run.
        request: the message.

    Raises:
        SiteError: the run has had all rounds that its promise is for.
        UserError: the charge cannot be written.
    """
    promised = guarantee(config) if config.dp == "image" or config.noise == "shared" else None
    if promised is None or kind not in (TRAIN, GATHER):
        return
    name = request.run if isinstance(request, Task) else ""
    if budget.rounds(run, name) >= promised.affordable:
        raise SiteError(
            "promise-spent",
            f"this site has given {promised.affordable} noisy answers to this run, those done again included; what the run "
            "promises is for no more; give more rounds, or more noise",
        )
    budget.charge(
        kind, run, request.round, promised.release, promised.releases, promised.clip, unit=promised.unit, name=name
    )


def refuse_beyond_budget(budget: Budget, bound: float, delta: float, config: RunConfig, kind: str) -> None:
    """Refuse what would cost the site's images more, over all runs, than the site allows.

    A query asks for all rounds that are planned, unless the run goes on with an earlier one; any other message for one.

    Args:
        budget: what was spent.
        bound: ε that all runs together may spend, infinite for no bound.
        delta: δ.
        config: the run's settings, as they are at the site.
        kind: type of the message that asks.

    Raises:
        SiteError: the run would; the text has nothing of the images.
        UserError: what was spent is not known.
    """
    if math.isinf(bound):
        return
    promised = guarantee(config) if config.dp == "image" else None
    if promised is None:
        raise SiteError(
            "budget-spent",
            f"this site lets all runs together spend epsilon {bound:g} at delta {delta:g} on an image, and what this run would "
            "spend has no bound; give --dp image",
        )
    if kind not in (QUERY, TRAIN, GATHER):
        return
    rounds = promised.rounds if kind == QUERY and not config.resume else 1
    spent = Counter(budget.spent())
    spent[promised.release] += rounds * promised.releases
    upwards = {release: math.ceil(_STEP ** math.ceil(math.log(times, _STEP))) for release, times in spent.items()}
    if epsilon(upwards, delta) > bound and (together := epsilon(spent, delta)) > bound:
        alone = epsilon({promised.release: rounds * promised.releases}, delta)
        raise SiteError(
            "budget-spent",
            f"this site lets all runs together spend epsilon {bound:g} at delta {delta:g} on an image; the run asks for "
            f"{alone:.3g}, which makes {together:.3g} with what went before; give more noise, or fewer rounds",
        )


def _end_of_torn(file: BinaryIO) -> bytes:
    """Return what ends a last line that a power cut tore; none where it is whole."""
    size = file.seek(0, os.SEEK_END)
    file.seek(max(0, size - 1))
    if file.read() in (b"", b"\n"):
        return b""
    file.seek(0)
    return _TORN if _charge(file.readlines()[-1]) is None else b"\n"


def _charge(line: bytes) -> dict[str, Any] | None:
    """Read a line; None where it is no charge."""
    try:
        charge = json.loads(line)
        right = charge["rate"] + charge["noise_multiplier"] + charge["times"] > 0 and "discrete" in charge
    except (ValueError, KeyError, TypeError):
        return None
    return charge if right else None
