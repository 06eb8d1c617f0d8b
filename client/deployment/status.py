"""``fedtransfer client status``: a site's processes, messages and results, as data and text."""

import time
from datetime import UTC, datetime
from typing import Any

from fedtransfer.client.consent.countersignature import Countersignature
from fedtransfer.client.consent.exchange_log import ExchangeLog
from fedtransfer.client.consent.ledger import SiteLedger
from fedtransfer.client.deployment.settings import SiteFolder
from fedtransfer.client.deployment.worker import worker_status
from fedtransfer.common.privacy.accounting import epsilon
from fedtransfer.common.support.processes import running_pid
from fedtransfer.common.support.services import is_serving
from fedtransfer.common.support.text import ago, counted, printable


def describe(site: SiteFolder) -> dict[str, Any]:
    """Return the status of the site."""
    sent = list(ExchangeLog(site.exchange_log).entries())
    return {
        "name": site.settings.name,
        "folder": str(site.folder),
        "coordinator": site.settings.coordinator,
        "running": running_pid(site.state),
        "serving": is_up(site),
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
        serves = "SuperNode is serving" if status["serving"] else "SuperNode does not serve yet"
        lines.append(
            f"{serves}, for {status['coordinator']}; fedtransfer server status there says who is connected."
        )
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
    moment = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(entry["time"]))
    number = f"round {entry['round']}" if entry["round"] is not None else ""
    kind, method, digest = entry["kind"], entry["method"], entry["sha256"][:16]
    refused = f"  refused: {entry['refused']}" if entry.get("refused") else ""
    return f"{moment}  {kind:17} {number:10} {method:16} {entry['bytes']:>9,} bytes  {digest}{refused}"


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


def is_up(site: SiteFolder) -> bool:
    """Whether SuperNode's health service answers, which comes up before its connection does."""
    port = site.state / "health-port"
    return (
        port.exists() and running_pid(site.state) is not None and is_serving(f"127.0.0.1:{port.read_text()}")
    )
