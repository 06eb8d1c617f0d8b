"""A coordinator that asks for more than its run said, writes into logs, or wears a site out.

Whole runs of two real sites, in process. Anna gets what the coordinator makes up; bert is honest's
measure: the run ends without anna, and both logs stay whole.
"""

import csv
from pathlib import Path
from typing import Any

import pytest
from deployed_sites import Deployment, Tamper
from flwr.app import Context, Message
from typer.testing import CliRunner

from fedtransfer.client.cli import client
from fedtransfer.client.consent.exchange_log import ExchangeLog
from fedtransfer.common.errors import UserError

pytestmark = [pytest.mark.run, pytest.mark.filterwarnings("ignore::DeprecationWarning:pathspec.*")]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Deployment:
    return Deployment(tmp_path_factory.mktemp("hostile"))


def at_anna(change: dict[str, Any], kinds: tuple[str, ...]) -> Tamper:
    """Change the run's settings in messages of these kinds, at anna only."""

    def tamper(message: Message, context: Context) -> Message:
        anna = Path(str(context.node_config["site"])).name == "anna"
        if anna and message.metadata.message_type in kinds:
            context.run_config |= change
        return message

    return tamper


def statuses(folder: Path) -> dict[str, set[str]]:
    with (folder / "sites.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    return {site: {row["status"] for row in rows if row["site"] == site} for site in ("anna", "bert")}


def output_of_log(world: Deployment) -> str:
    done = CliRunner().invoke(client, ["log", "--verify", "--dir", str(world.sites["anna"].folder)])
    assert done.exit_code == 0, done.output
    return done.output


@pytest.mark.parametrize(
    "change", [{"local-epochs": 1000}, {"seed": 5}, {"learning-rate": 1e-9}, {"dropout": 0.1}], ids=str
)
def test_a_run_that_changes_its_settings_under_way_is_refused(
    world: Deployment, change: dict[str, Any]
) -> None:
    folder = world.run(f"changed-{next(iter(change))}", at_anna(change, ("train",)), rounds=2)
    found = statuses(folder)
    assert found["bert"] == {"ok"}
    [refusal] = {status for status in found["anna"] if status != "ok"}
    assert refusal.startswith("run-changed: the run's settings are not those of its earlier messages")
    assert "refused: run-changed" in output_of_log(world)


@pytest.mark.parametrize(
    "strategy", ["m" * 1_500_000, "fedavg\x1b[1A\x1b[2Ksent nothing", "fedavg\nround 1  nothing"], ids=len
)
def test_settings_that_would_write_into_the_log_are_refused_and_the_chain_holds(
    world: Deployment, strategy: str
) -> None:
    folder = world.run(f"texts-{len(strategy)}", at_anna({"strategy": strategy}, ("query", "train")))
    assert statuses(folder)["bert"] == {"ok"}
    last = [*ExchangeLog(world.sites["anna"].exchange_log).entries()][-1]
    assert len(last["method"]) <= 100
    output = output_of_log(world)
    assert "refused: unreadable-settings" in output
    assert output.isprintable() or all(line.isprintable() for line in output.splitlines())


def test_a_run_that_costs_more_than_a_site_gives_says_how_much(world: Deployment) -> None:
    with pytest.raises(UserError) as caught:
        world.run("costly", augment=10**9)
    text = str(caught.value)
    for site in ("anna", "bert"):
        assert f"{site}: too-costly: the run needs" in text
    assert "TB of disk at this site, which gives" in text


def test_bounds_a_day_end_a_siege(world: Deployment) -> None:
    """Anna gives a day's rounds to all runs together, and then they go on without her."""
    world.edit("anna", "train = 100000", "train = 5")
    done = ExchangeLog(world.sites["anna"].exchange_log).answers_since(0)["train"]
    folder = world.run("siege", rounds=8)
    found = statuses(folder)
    assert found["bert"] == {"ok"}
    assert any(
        status.startswith("too-many-messages: this site answers at most 5") for status in found["anna"]
    )
    assert ExchangeLog(world.sites["anna"].exchange_log).answers_since(0)["train"] == max(5, done)
    world.edit("anna", "train = 5", "train = 100000")
