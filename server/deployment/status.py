"""``fedtransfer server status``: SuperLink, sites and the current run, as data and as text."""

import json
import time
from collections.abc import Collection
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from fedtransfer.common.errors import UserError
from fedtransfer.common.support.condition import read_condition
from fedtransfer.common.support.files import full_disk
from fedtransfer.common.support.processes import running_pid
from fedtransfer.common.support.services import is_serving
from fedtransfer.common.support.text import ago, counted
from fedtransfer.server.deployment.attendance import remarks
from fedtransfer.server.deployment.certificates import expiry_warnings, read_certificate
from fedtransfer.server.deployment.coordinator import Coordinator
from fedtransfer.server.deployment.current import read_current
from fedtransfer.server.deployment.enrolment import key_warnings, readable_sites
from fedtransfer.server.deployment.gate.refusals import recent_refusals
from fedtransfer.server.deployment.superlink import connect

_SCORED_ON = {"sites": "the sites' test images", "public-data": "public images"}


def wait_until_accepted(coordinator: Coordinator, names: Collection[str], seconds: float = 60.0) -> bool:
    """Wait until SuperLink accepts the keys of enrolled sites; return whether it does.

    The coordinator's supervisor looks for new keys every second. One that does not run learns them
    when it starts.
    """
    end = time.monotonic() + seconds
    while True:
        status = describe(coordinator)
        waiting = {site["name"] for site in status["sites"] if site["status"] == "unknown"} & set(names)
        if not (status["serving"] and waiting):
            return True
        if time.monotonic() > end:
            return False
        time.sleep(0.1)


def describe(coordinator: Coordinator) -> dict[str, Any]:
    """Return the status of the coordinator, its sites and its run."""
    serving, why, nodes = is_serving(coordinator.health_address), "", {}
    if serving:
        try:
            with connect(coordinator) as link:
                nodes = {node.name: node for node in link.nodes()}
        except UserError as error:  # it is shutting down, or in trouble
            serving, why = False, str(error)
    supervisor, condition = running_pid(coordinator.state), read_condition(coordinator.condition)
    down = condition if supervisor and condition and not condition.up else None
    enrolled, damaged = readable_sites(coordinator)
    sites, attending = [], remarks(coordinator.state)
    for site in enrolled:
        node = nodes.get(site.name)
        since = node.since.isoformat() if node and node.since else None
        status = node.status if node else "unknown"
        sites.append(
            {
                "name": site.name, "key": site.fingerprint, "status": status, "since": since,
                "remarks": attending.get(site.name, []),
            }
        )  # fmt: skip
    current = read_current(coordinator)
    run = current and {
        "name": current.name, "status": current.status, "why": current.why, "rounds": current.config.rounds,
        "last": next(reversed(events(current.folder)), None),
    }  # fmt: skip
    return {
        "folder": str(coordinator.folder),
        "supervisor": supervisor,
        "serving": serving,
        "why": down.why if down else why,
        "down_since": down.since if down else None,
        "certificate_ends": read_certificate(coordinator.certificates / "server.crt").not_after.isoformat(),
        "warnings": [
            *expiry_warnings(coordinator.certificates),
            *key_warnings(coordinator),
            *full_disk(coordinator.folder),
            *damaged,
        ],
        "sites": sites,
        "refusals": recent_refusals(coordinator.state),
        "run": run,
    }


def status_lines(status: dict[str, Any]) -> list[str]:
    """Return the status as lines of text."""
    runs = "runs" if status["supervisor"] else "does not run: fedtransfer server start"
    lines = [f"The coordinator in {status['folder']} {runs}."]
    lines.append("SuperLink is serving." if status["serving"] else "SuperLink does not answer.")
    if why := status["why"]:
        since = status["down_since"]
        when = f", since {ago(datetime.fromtimestamp(since, UTC))}" if since else ""
        lines.append(f"Trouble{when}: {why}")
    lines += [f"Warning: {warning}" for warning in status["warnings"]]
    if not status["sites"]:
        lines.append("No site is enrolled: fedtransfer server enroll SITE.pub")
    words = {
        "online": "connected",
        "offline": "not connected",
        "registered": "never seen yet",
        "unknown": "enrolled",
    }
    for site in status["sites"]:
        since = f", since {ago(datetime.fromisoformat(site['since']))}" if site["since"] else ""
        lines.append(f"  {site['name']}: {words[site['status']]}{since}")
        lines += [f"    Warning: {remark}." for remark in site["remarks"]]
    for refusal in status["refusals"]:
        times = "once" if refusal["times"] == 1 else f"{refusal['times']} times"
        last = ago(datetime.fromtimestamp(refusal["last"], UTC))
        who = refusal["site"] or "nobody who is enrolled"
        lines.append(f"  refused: {who}: {refusal['why']} ({times}, last {last})")
    run = status["run"]
    if run is None:
        return [*lines, "No run yet: fedtransfer server run"]
    why = f": {run['why']}" if run["why"] else ""
    lines.append(f"Run {run['name']} ({counted(run['rounds'], 'round')}): {run['status']}{why}")
    if run["last"]:
        when = ago(datetime.fromtimestamp(run["last"]["time"], UTC))
        lines.append(f"  {event_line(run['last'])}, {when}")
    return lines


def events(folder: Path) -> list[dict[str, Any]]:
    """Return the events of a run so far."""
    path, records = folder / "events.jsonl", []
    for line in path.read_text("utf-8").splitlines() if path.exists() else ():
        with suppress(ValueError):  # torn by a kill, or being written
            records.append(json.loads(line))
    return records


def event_line(event: dict[str, Any]) -> str:
    """Return an event of a run as a line of text."""
    kind = event["event"]
    if kind == "waiting":
        connected = f" ({', '.join(event['connected'])})" if event["connected"] else ""
        number = f"{len(event['connected'])} of {event['wanted']}"
        return f"waiting for sites, {event['seconds']} s: {number} are connected{connected}"
    if kind == "preparing":
        return f"{event['site']} prepares its features: {event['done']} of {event['total'] or '?'} images"
    if kind == "start":
        after = f", going on after round {event['resumed_after']}" if event["resumed_after"] else ""
        absent = "".join(f"; {site} takes no part: {why}" for site, why in event["absent"].items())
        sites, rounds = counted(len(event["sites"]), "site"), counted(event["rounds"], "round")
        return f"run of {sites}, {rounds}{after}{absent}"
    if kind == "round":
        left_out = "".join(f"; {site} is left out: {why}" for site, why in event.get("refused", {}).items())
        phase = f"round {event['round']}" if event["phase"] == "train" else "closing scores"
        if event["failure"]:
            return f"{phase}: {event['failure']}{left_out}"
        secret, epsilon = "present" not in event, event.get("epsilon")
        sites = "secret sites" if secret else f"{len(event['present'])} of {len(event['planned'])} sites"
        unscored = "no test images" if epsilon is None else "not scored"
        scores = unscored if event["accuracy"] is None else f"accuracy {100 * event['accuracy']:.1f} %"
        spent = "" if epsilon is None else f", epsilon {epsilon:.3g} spent"
        return f"{phase}: {sites}, {scores}, {event['seconds']:.1f} s{spent}{left_out}"
    if kind == "end":
        on, accuracy = _SCORED_ON.get(event.get("scored_on", "sites")), event["accuracy"]
        scores = "" if accuracy is None else f", accuracy {100 * accuracy:.1f} % on {on}"
        best = counted(event["best_round"] - 1, "round")
        return f"finished: the best head is that after {best} of training{scores}"
    return f"stopped: {event['text']}"
