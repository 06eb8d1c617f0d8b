"""What a site does not agree to: a run is told why, and goes on without it. Real processes.

One honest site, and two with other wishes from run to run; settings are read at each message.
"""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from deployment.federation import CoordinatorParty, SiteParty, start_all, stopping
from deployment.ungated import ungated
from pictures import class_folders
from waiting import patient, wait_until

from fedtransfer.client.consent.exchange_log import ExchangeLog
from fedtransfer.common.config.config import make_config
from fedtransfer.common.tensorflow import keras
from fedtransfer.common.wire import bundle
from fedtransfer.common.wire.bundle import build_bundle, sources_digest
from fedtransfer.server.deployment.audit_log import last_lines
from fedtransfer.server.deployment.coordinator import Coordinator
from fedtransfer.server.deployment.superlink import RunStatus, connect

pytestmark = [pytest.mark.full, pytest.mark.filterwarnings("ignore::DeprecationWarning:pathspec.*")]

DECLARED = ("--classes", "declared", "--class-names", "red,green,yellow")
SECRET = ("melanosis", "purpura")  # classes that no coordinator is to hear of: one not declared, one too rare


class World:
    """A running coordinator and three running sites."""

    def __init__(self, root: Path) -> None:
        self.coordinator = CoordinatorParty(root / "coordinator")
        self.sites = {}
        for number, name in enumerate(("anna", "bert", "carl")):
            images = class_folders(root / "images" / name, number)
            self.sites[name] = SiteParty(root / name, name, self.coordinator, images)
        shutil.rmtree(root / "images" / "anna" / "blue")
        for name, secret in zip(("bert", "carl"), SECRET, strict=True):
            (root / "images" / name / "blue").rename(root / "images" / name / secret)
        for path in list((root / "images" / "carl" / SECRET[1]).iterdir())[4:]:
            path.unlink()
        self._settings = {name: (site.folder / "site.toml").read_text() for name, site in self.sites.items()}

    def start(self) -> None:
        self.wish("carl")
        start_all(self.coordinator, *self.sites.values())

    def wish(self, name: str, *lines: str) -> None:
        """Put these lines into a site's site.toml as it was at first, each in place of its key."""
        text = self._settings[name]
        for line in (*lines, *(["least-images = 5"] if name == "carl" else [])):
            key = line.split(" = ")[0]
            place = "[classes]" if key.startswith('"') else f"{key} = "
            [old] = [given for given in text.splitlines() if given.startswith(place)]
            text = text.replace(old, f"{old}\n{line}" if old == "[classes]" else line)
        (self.sites[name].folder / "site.toml").write_text(text)

    def check_secrets(self, known: str) -> None:
        """No file of the coordinator has a word of what is kept back; some have what it knows."""
        files = [
            path for path in self.coordinator.folder.rglob("*") if path.is_file() and not path.is_symlink()
        ]
        everything = {path: path.read_bytes() for path in files}
        assert any(known.encode() in content for content in everything.values())
        assert not [
            path for path, content in everything.items() for word in SECRET if word.encode() in content
        ]

    def worker_log(self, name: str) -> str:
        return (self.sites[name].folder / "state" / "worker.log").read_text("utf-8", "replace")


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    world = World(tmp_path_factory.mktemp("consent"))
    with stopping(*world.sites.values(), world.coordinator):
        world.start()
        yield world
        for site in world.sites.values():  # all at once
            assert site.process
            site.process.terminate()


@pytest.fixture
def world(running: World) -> World:
    """The same, with no wish but those that a test has."""
    for name in running.sites:
        running.wish(name)
    return running


def test_unknown_class_and_another_backbone(world: World) -> None:
    world.wish("bert")
    world.wish("carl", 'backbone = "other.keras"')
    image = keras.Input((64, 64, 3))
    features = keras.layers.GlobalAveragePooling2D()(
        keras.layers.Conv2D(4, 5, strides=3, activation="relu")(image)
    )
    keras.Model(image, features).save(world.sites["carl"].folder / "other.keras")
    world.coordinator.run("--min-sites", "1", "--rounds", "1", *DECLARED, name="classes")
    [start] = world.coordinator.events("classes", "start")
    assert start["sites"] == ["anna"]
    absent = start["absent"]
    assert absent["bert"] == (
        "unknown-class: the site has a class that is not among the 3 that the run declares; "
        "the site's own log names it"
    )
    assert (
        "the run has declared its classes, and 'melanosis' is not among them: 'red', 'green', 'yellow'; "
        'map them in site.toml, [classes], or leave them out there with ""'
    ) in world.worker_log("bert")
    assert absent["carl"].startswith(
        "backbone-differs: backbone resnet18v2-tinyimagenet at 64 px: the server has "
    )
    server, own = (
        words.split("…")[0] for words in absent["carl"].split("fingerprint ")[1].split("this site ")
    )
    summary = json.loads((world.coordinator.folder / "runs" / "classes" / "summary.json").read_text())
    assert summary["backbone"]["fingerprint"].startswith(server)
    assert (len(server), len(own)) == (16, 16)
    assert server != own
    assert absent["carl"].endswith(
        "install the same weights file, and the same feature statistics, on both sides"
    )
    [end] = world.coordinator.events("classes", "end")
    assert end["accuracy"] is not None
    world.check_secrets('"green"')


def test_a_run_that_nobody_agrees_to(world: World) -> None:
    """Each site refuses for a reason of its own; the run ends at once, and says which."""
    world.wish("anna", 'methods = ["fedprox"]')
    world.wish("bert", "rounds-a-day = 7")
    world.wish("carl", 'demand = ["secure-aggregation"]')
    done = ExchangeLog(world.sites["bert"].folder / "sent.jsonl").rounds_since(0)
    ended = world.coordinator.command(
        "run", "--name", "nobody", "--min-sites", "1", "--rounds", "8", check=False
    )
    assert ended.returncode == 1
    told = (
        "0 of 3 sites can take part, 1 are needed:",
        "  anna: method-not-allowed: this site takes part in fedprox only, the run uses fedavg; "
        "agree on one of these",
        f"  bert: too-many-rounds: this site takes part in at most 7 rounds of training or of sums "
        f"within 24 hours and has done {done}; the run asks for 8 more; lower rounds, or wait",
        "  carl: demand-not-met: this site demands secure-aggregation, which its version of fedtransfer "
        "does not have; agree on something else, or install a version that has it",
    )
    [error] = world.coordinator.events("nobody", "error")
    for line in told:
        assert line in error["text"]
        assert line in ended.stderr
    world.check_secrets("method-not-allowed")


def test_another_bundle_and_enough_rounds_for_today(world: World) -> None:
    """Settings count from the next message on: a class is kept out; in mid-run a site stops."""
    ledger = ExchangeLog(world.sites["carl"].folder / "sent.jsonl")
    done = ledger.rounds_since(0)
    world.wish("anna", f'bundles = ["{"0" * 64}"]')
    world.wish("bert", '"melanosis" = ""')
    world.wish("carl")
    world.coordinator.command(
        "run", "--detach", "--name", "rounds", "--min-sites", "1", "--rounds", "3", *DECLARED
    )
    world.coordinator.wait_for_round(1, "rounds")
    world.wish("carl", f"rounds-a-day = {done + 1}")
    world.coordinator.wait_for_end("rounds")

    [start] = world.coordinator.events("rounds", "start")
    digest = build_bundle()[1]
    assert start["sites"] == ["bert", "carl"]
    assert start["absent"] == {
        "anna": "other-bundle: this site answers only bundle 0000000000000000…, "
        f"the run came with {digest[:16]}…; install the same version of fedtransfer on both sides"
    }
    told = f"bundle {digest} is not on this site's allow-list ({'0' * 64}); nothing of it was unpacked"
    assert told in world.worker_log("anna")
    assert not list(world.sites["anna"].folder.rglob("apps"))

    took = ledger.rounds_since(0) - done
    rounds = world.coordinator.rounds("rounds")
    assert 1 <= took < 3
    assert [event["round"] for event in rounds if "bert" in event["present"]] == [1, 2, 3]
    assert [event["round"] for event in rounds if "carl" in event["present"]] == list(range(1, took + 1))
    assert {why for event in rounds for why in event["refused"].values()} == {
        f"too-many-rounds: this site takes part in at most {done + 1} rounds of training or of sums "
        f"within 24 hours and has done {done + took}; the run asks for 1 more; lower rounds, or wait"
    }
    [scores] = [event for event in world.coordinator.events("rounds", "round") if event["phase"] == "score"]
    assert scores["present"] == ["bert", "carl"], "to be scored is no training"
    world.check_secrets('"green"')


def test_bundle_that_is_not_the_installed_one(
    world: World, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Neither the coordinator nor a site runs what another version, or somebody else, has made.

    Our own coordinator starts no such bundle (``test_gate``), so this one is Flower's alone.
    A site whose settings are wrong cannot tell what it allows, so it answers nothing else either.
    """
    coordinator = Coordinator.open(world.coordinator.folder)
    settings = {"sites": 3, "min-sites": 1, "rounds": 1, "data": "each site's own"}
    config = make_config({**settings, "out": str(coordinator.folder / "runs" / "foreign")}, "test")
    for name in ("anna", "carl"):
        world.wish(name)
    (world.sites["bert"].folder / "site.toml").write_text("name = ")
    with ungated(world.coordinator), connect(coordinator) as link:
        wait_until(lambda: all(node.status == "online" for node in link.nodes()), "the sites are back")

        def ended(run: int) -> RunStatus:
            status = wait_until(
                lambda: (s := link.run(run)) and s.status == "finished" and s, "the run is over"
            )
            assert status.outcome == "failed"
            return status

        with monkeypatch.context() as patch:
            patch.setattr(bundle, "sources_digest", lambda: "0123456789abcdef" * 4)
            other = link.submit(config)
        evil = f'if "{{package}}" == "client": open({str(tmp_path / "seen")!r}, "w")\n{bundle._APP}'
        with monkeypatch.context() as patch:
            patch.setattr(bundle, "_APP", evil)
            digest = build_bundle()[1]
            foreign = link.submit(config)
        told = (
            f"the bundle was made for sources 0123456789abcdef…, installed here are {sources_digest()[:16]}…"
        )
        assert told in ended(other).details
        details = ended(foreign).details
    world.wish("bert")
    assert "0 of 3 sites can take part, 1 are needed" in details
    assert "bert: unusable: the site's settings cannot be used; the site's own log says why" in details
    assert "site.toml: not valid TOML: " in world.worker_log("bert")
    allowed = build_bundle()[1]
    told = f"other-bundle: this site answers only bundle {allowed[:16]}…, the run came with {digest[:16]}…"
    for name in ("anna", "carl"):
        assert f"{name}: {told}" in details
        assert f"bundle {digest} is not on this site's allow-list" in world.worker_log(name)
    assert not [path for site in world.sites.values() for path in site.folder.rglob("apps")]
    assert not (tmp_path / "seen").exists()


def test_work_without_end_ends_at_the_sites_and_no_log_loses_a_line(world: World) -> None:
    """A worker that exceeds its time ends and comes back; the coordinator knows where logs end."""
    seconds = round(patient(8))  # enough for all else
    limit = f"seconds-an-answer = {seconds}"
    world.wish("anna", limit)
    world.wish("bert", limit, '"melanosis" = ""')
    world.wish("carl", limit)
    epochs = ("--local-epochs", "1000000000", "--rounds", "1", "--round-retries", "0")
    ended = world.coordinator.command("run", "--name", "endless", *epochs, *DECLARED, check=False)
    assert ended.returncode == 1
    assert "0 of 3 sites gave a usable answer" in ended.stderr
    for name in world.sites:
        why = f"the worker ends: an answer takes more than {seconds} s (seconds-an-answer in [limits])"
        assert why in world.worker_log(name)
    world.wish("anna")
    world.wish("bert", '"melanosis" = ""')
    world.wish("carl")
    world.coordinator.run("--rounds", "1", *DECLARED, name="afterwards")
    assert world.coordinator.rounds("afterwards")[0]["present"] == ["anna", "bert", "carl"]
    logs = {name: ExchangeLog(site.folder / "sent.jsonl").chain for name, site in world.sites.items()}
    named = last_lines(Coordinator.open(world.coordinator.folder))
    assert named == {name: log.last_hash() for name, log in logs.items()}
    for site in world.sites.values():
        site.command("log", "--verify")


def test_a_key_is_renewed_while_nobody_stands_by(world: World) -> None:
    """Signed with the old key, taken up after a run; the site goes on with it by itself."""
    world.wish("bert", '"melanosis" = ""')
    anna = world.sites["anna"]
    printed = anna.command("new-key", "--renew").stdout
    world.coordinator.run("--rounds", "1", *DECLARED, name="renewal")

    def signed_on() -> bool:
        [site] = [site for site in world.coordinator.status()["sites"] if site["name"] == "anna"]
        went_on = not (anna.folder / "next.key").exists()
        return went_on and site["key"] in printed and site["status"] == "online"

    wait_until(signed_on, "anna signs on with her new key", anna.died)
    assert "the coordinator has taken up the new key" in anna.log()
    world.coordinator.run("--rounds", "1", *DECLARED, name="renewed")
    assert world.coordinator.rounds("renewed")[0]["present"] == ["anna", "bert", "carl"]
