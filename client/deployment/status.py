"""``fedtransfer client status``: whether the site is up, since when, and what it does."""

from datetime import UTC, datetime
from typing import Any

from fedtransfer.client.consent.ledger import SiteLedger
from fedtransfer.client.deployment.exchange_log import ExchangeLog
from fedtransfer.client.deployment.settings import SiteFolder
from fedtransfer.client.deployment.worker import worker_status
from fedtransfer.common.errors import UserError
from fedtransfer.common.privacy.accounting import epsilon
from fedtransfer.common.support.health import is_serving
from fedtransfer.common.support.processes import running_pid, stop_running
from fedtransfer.common.support.text import ago


def describe(site: SiteFolder) -> dict[str, Any]:
    """Return how the site is."""
    sent = list(ExchangeLog(site.exchange_log).entries())
    return {
        "name": site.settings.name,
        "folder": str(site.folder),
        "coordinator": site.settings.coordinator,
        "running": running_pid(site.state),
        "serving": is_up(site),
        "worker": worker_status(site),
        "last_sent": sent[-1] if sent else None,
        "privacy": spent_in_words(site),
        "results": sorted(path.parent.name for path in site.results.glob("*/head.npz")),
    }


def in_words(status: dict[str, Any]) -> list[str]:
    """Say it in lines."""
    runs = "runs" if status["running"] else "does not run: fedtransfer client start"
    lines = [f"{status['name']} ({status['folder']}) {runs}."]
    if status["running"]:
        serves = "SuperNode is serving" if status["serving"] else "SuperNode does not serve yet"
        lines.append(f"{serves}, for {status['coordinator']}; fedtransfer server status there says who is connected.")
    if worker := status["worker"]:
        since = ago(datetime.fromtimestamp(worker["since"], UTC))
        doing = worker["doing_since"]
        now = f"working since {ago(datetime.fromtimestamp(doing, UTC))}" if doing else "idle"
        lines.append(f"The worker is up since {since}, has done {worker['done']} messages, and is {now}.")
    if sent := status["last_sent"]:
        what = f"{sent['kind']}" + (f" of round {sent['round']}" if sent["round"] is not None else "")
        lines.append(f"Last sent: {what}, {sent['bytes']:,} bytes, {ago(datetime.fromtimestamp(sent['time'], UTC))}.")
    lines.append(f"Privacy: {status['privacy']}.")
    held = ", ".join(status["results"]) or "none yet"
    lines.append(f"Results held: {held}.")
    return lines


def spent_in_words(site: SiteFolder) -> str:
    """Say what runs with differential privacy of images have spent at the site, and what they may spend.

    Raises:
        UserError: the ledger is damaged, or there are two.
    """
    privacy = site.settings.privacy
    spent = epsilon(SiteLedger.open(site.folder).spent(), privacy.delta)
    bound = f"of {privacy.epsilon:g} that all runs together may" if privacy.epsilon else "and no bound is set"
    return f"epsilon {spent:.3g} at delta {privacy.delta:g} is spent on an image by runs with --dp image, {bound}"


def is_up(site: SiteFolder) -> bool:
    """Return whether the site's SuperNode serves, by its health service; it comes up before the connection does."""
    port = site.state / "health-port"
    return port.exists() and running_pid(site.state) is not None and is_serving(f"127.0.0.1:{port.read_text()}")


def stop_site(site: SiteFolder) -> None:
    """End the process that runs the site, and wait until it has.

    Raises:
        UserError: none does.
    """
    if not stop_running(site.state):
        raise UserError(f"{site.folder}: this site does not run")
