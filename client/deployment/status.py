"""``fedtransfer client status``: a site's connection, processes, messages and results."""

import time
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

from fedtransfer.client.consent.countersignature import Countersignature
from fedtransfer.client.consent.exchange_log import ExchangeLog
from fedtransfer.client.consent.ledger import SiteLedger
from fedtransfer.client.deployment.causes import CLOCK_SECONDS, clock_cause
from fedtransfer.client.deployment.settings import SiteFolder
from fedtransfer.client.deployment.worker import worker_status
from fedtransfer.common.privacy.accounting import epsilon
from fedtransfer.common.support.condition import Condition, Facts, read_condition
from fedtransfer.common.support.files import full_disk
from fedtransfer.common.support.processes import running_pid
from fedtransfer.common.support.text import ago, counted, printable

WARN_DAYS = 30
SILENT_SECONDS = 45.0  # a request without an answer is given up after 30 s


def describe(site: SiteFolder) -> dict[str, Any]:
    """Return the status of the site."""
    sent = list(ExchangeLog(site.exchange_log).entries())
    condition = condition_of(site)
    return {
        "name": site.settings.name,
        "folder": str(site.folder),
        "coordinator": site.settings.coordinator,
        "running": running_pid(site.state),
        "connection": asdict(condition) if condition else None,
        "warnings": warnings(site, condition),
        "worker": worker_status(site),
        "last_sent": sent[-1] if sent else None,
        "privacy": spending_line(site),
        "problems": Countersignature(site).problems(),
        "results": sorted(path.parent.name for path in site.results.glob("*/head.npz")),
    }


def status_lines(status: dict[str, Any]) -> list[str]:
    """Return the status as lines of text."""
    runs = "runs" if status["running"] else "does not run: fedtransfer client start"
    lines = [f"{status['name']} ({status['folder']}) {runs}."]
    if status["running"]:
        lines.append(connection_line(status["coordinator"], status["connection"]))
        if not status["worker"]:
            lines.append("The worker does not answer: see state/worker.log.")
    lines += [f"Warning: {warning}." for warning in status["warnings"]]
    if worker := status["worker"]:
        since = ago(datetime.fromtimestamp(worker["since"], UTC))
        doing = worker["doing_since"]
        now = f"working since {ago(datetime.fromtimestamp(doing, UTC))}" if doing else "idle"
        lines.append(
            f"The worker started {since}, has done {counted(worker['done'], 'message')}, and is {now}."
        )
    if message := status["last_sent"]:
        kind = f"{message['kind']}" + (
            f" of round {message['round']}" if message["round"] is not None else ""
        )
        moment = ago(datetime.fromtimestamp(message["time"], UTC))
        lines.append(f"Last sent: {kind}, {message['bytes']:,} bytes, {moment}.")
    lines += [f"Warning: {problem}." for problem in status["problems"]]
    lines.append(f"Privacy: {status['privacy']}.")
    lines.append(f"Results: {', '.join(status['results']) or 'none yet'}.")
    return lines


def log_lines(site: SiteFolder, number: int, *, verify: bool) -> list[str]:
    """Return the last lines of the site's log as text.

    ``verify``: with the hash of its last line, and that of the coordinator, to compare.
    """
    exchanges = ExchangeLog(site.exchange_log)
    lines = [printable(_message_line(entry)) for entry in list(exchanges.entries())[-number:]]
    if not verify:
        return lines
    named = Countersignature(site).last() or "none yet"
    return [*lines, f"last line: {exchanges.chain.last_hash()}", f"the coordinator's: {named}"]


def _message_line(entry: dict[str, Any]) -> str:
    try:
        moment = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(entry["time"]))
        number = f"round {entry['round']}" if entry["round"] is not None else ""
        kind, method, digest = entry["kind"], entry["method"], entry["sha256"][:16]
        refused = f"  refused: {entry['refused']}" if entry.get("refused") else ""
        return f"{moment}  {kind:17} {number:10} {method:16} {entry['bytes']:>9,} bytes  {digest}{refused}"
    except (KeyError, TypeError, ValueError, OverflowError):
        return f"a line that records no message: {entry}"


def spending_line(site: SiteFolder) -> str:
    """Say how much privacy runs with ``--dp image`` have spent on an image, and the limit.

    Raises:
        UserError: the ledger is damaged, or there are two.
    """
    privacy = site.settings.privacy
    spent = epsilon(SiteLedger.open(site.folder).spent(), privacy.delta)
    limit = f"of {privacy.epsilon:g} for all runs together" if privacy.epsilon else "without a limit"
    spending = f"epsilon {spent:.3g} at delta {privacy.delta:g}"
    return f"{spending} is spent on an image by runs with --dp image, {limit}"


def connection_line(coordinator: str, connection: dict[str, Any] | None) -> str:
    """Say whether a running site is connected, since when, and why it is not."""
    if connection is None:
        return f"Connecting to {coordinator}."
    since = ago(datetime.fromtimestamp(connection["since"], UTC))
    if connection["up"]:
        return f"Connected to {coordinator} since {since}."
    why = connection["why"] or "it has not tried yet"
    return f"NOT connected to {coordinator}, since {since}: {why}. The site goes on trying."


def warnings(site: SiteFolder, condition: Condition | None) -> list[str]:
    """Return a sentence for each thing that a person must see to soon."""
    facts: Facts = condition.facts if condition else {}
    sentences = [*full_disk(site.folder)]
    if condition and condition.up and (silence := time.time() - condition.pulse) > SILENT_SECONDS:
        sentences.append(f"SuperNode has shown no sign of life for {silence:.0f} s")
    if abs(offset := float(facts.get("clock", 0))) > CLOCK_SECONDS:
        sentences.append(clock_cause(offset))
    if theirs := str(facts.get("sources", "")):
        from fedtransfer.common.wire.bundle import sources_digest  # loads Flower, which takes a second

        if theirs != (ours := sources_digest()):
            sentences.append(
                f"the coordinator has another version of fedtransfer ({theirs[:16]}…, here {ours[:16]}…), so "
                "its runs are refused; install the same version on both sides"
            )
    if ends := facts.get("certificate_ends"):
        left = (float(ends) - time.time()) / 86400
        if left < WARN_DAYS:
            day, verb = datetime.fromtimestamp(float(ends), UTC), "expires" if left > 0 else "expired"
            remedy = "ask its people to run: fedtransfer server renew"
            sentences.append(f"the coordinator's certificate {verb} on {day:%Y-%m-%d}; {remedy}")
    return sentences


def condition_of(site: SiteFolder) -> Condition | None:
    """Return the condition of a running site's connection; None before the first try."""
    return read_condition(site.connection) if running_pid(site.state) is not None else None


def is_up(site: SiteFolder) -> bool:
    """Whether the site is connected to its coordinator."""
    condition = condition_of(site)
    return condition is not None and condition.up
