"""What a run may cost a site: estimated before work begins, refused with the numbers."""

import re
import time
from collections.abc import Callable
from pathlib import Path

import forked
import pytest

from fedtransfer.client.consent import limits
from fedtransfer.client.consent.limits import cost_of, refuse_costly, watched
from fedtransfer.client.deployment import watch
from fedtransfer.client.deployment.founding import found_site
from fedtransfer.client.deployment.settings import Limits, SiteFolder
from fedtransfer.client.node import deployed_node, site_images
from fedtransfer.common.config.config import RunConfig
from fedtransfer.common.errors import SiteError
from fedtransfer.common.support.machine import folder_bytes, free_disk_bytes, memory_bytes


@pytest.fixture
def site(tmp_path: Path, folder_of_classes: Callable[..., Path]) -> SiteFolder:
    """A site with 36 pictures."""
    return found_site(tmp_path / "site", "anna", "localhost:9443", None, folder_of_classes(12))


def limited(site: SiteFolder, **changes: float) -> SiteFolder:
    site.settings.__dict__["limits"] = Limits(**changes)  # type: ignore[arg-type]
    return site


def refusal(site: SiteFolder, **settings: object) -> str:
    with pytest.raises(SiteError) as caught:
        refuse_costly(site, site.apply(RunConfig(**settings)), site_images(site))
    assert caught.value.code == "too-costly"
    return caught.value.text


def test_an_honest_run_is_far_below_the_limits_of_any_machine(site: SiteFolder) -> None:
    refuse_costly(limited(site, memory_gb=1, disk_gb=0.001), site.apply(RunConfig()), site_images(site))


def test_views_without_end_are_refused_at_once(site: SiteFolder) -> None:
    began = time.monotonic()
    text = refusal(site, augment=10**9)
    assert time.monotonic() - began < 5
    assert re.search(r"the run needs 2[0-9]\.[0-9] TB of disk at this site, which gives .*", text)
    assert "disk-gb in [limits]" in text


@pytest.mark.parametrize(
    "settings",
    [
        {"resolution": 30_000},
        {"batch_size": 10**9},
        {"hidden_units": 10**8},
        {"init": "fed3r", "augment": 10**6},
    ],
    ids=str,
)
def test_memory_beyond_a_machine_is_refused(site: SiteFolder, settings: dict[str, object]) -> None:
    text = refusal(limited(site, memory_gb=2, disk_gb=10**6), **settings)
    assert "of memory at this site, which gives 2 GB; lower augment, resolution" in text


def test_the_cost_of_disk_is_that_of_the_features(site: SiteFolder) -> None:
    images, store = site_images(site), site.path("features")
    plain, more = (cost_of(site.apply(RunConfig(augment=k)), images, store) for k in (0, 10))
    assert plain.disk == 36 * (4 * 256 + 32)
    assert more.disk == pytest.approx(plain.disk * (1 + 10 * 0.64), rel=0.05)


def test_features_of_other_runs_count_and_those_of_this_run_count_once(site: SiteFolder) -> None:
    config, images, store = site.apply(RunConfig()), site_images(site), site.path("features")
    deployed_node(str(site.folder)).prepare(config)
    present = folder_bytes(store)
    before = cost_of(config, images, store).disk
    assert present <= before < 1.1 * present
    (store / "another").mkdir()
    (store / "another" / "shard.npy").write_bytes(bytes(10**6))
    assert cost_of(config, images, store).disk == before + 10**6
    assert "1.04 MB of disk" in refusal(limited(site, disk_gb=0.001))


def test_a_site_refuses_before_an_image_is_read(site: SiteFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fedtransfer.common.data.images.Image.read", lambda image: pytest.fail("was read"))
    with pytest.raises(SiteError, match="of disk at this site"):
        deployed_node(str(site.folder)).prepare(site.apply(RunConfig(augment=10**9)))


def test_features_that_take_too_long_are_given_up_after_a_minute(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, reports = [0.0], []
    monkeypatch.setattr(limits.time, "monotonic", lambda: clock[0])
    watch = watched(lambda done, total: reports.append((done, total)), Limits(hours_to_prepare=2.0))
    watch(0, 10_000)
    clock[0] = 59.0
    watch(10, 10_000)
    clock[0] = 61.0
    with pytest.raises(SiteError, match=r"takes 16\.9 hours at this site, which gives 2; lower augment"):
        watch(10, 10_000)
    watch(100, 10_000)
    assert reports[-1] == (100, 10_000), "1.7 hours are within the limit"


def test_the_time_of_a_second_cut_is_added_to_that_of_the_first(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [0.0]
    monkeypatch.setattr(limits.time, "monotonic", lambda: clock[0])
    watch = watched(lambda done, total: None, Limits(hours_to_prepare=2.0))
    watch(0, 100)
    clock[0] = 1.5 * 3600
    watch(100, 100)
    watch(0, 100)
    clock[0] += 1000
    with pytest.raises(SiteError, match=r"takes 2\.06 hours"):
        watch(50, 100)


def test_defaults_follow_from_the_machine(tmp_path: Path) -> None:
    assert Limits().memory == max(memory_bytes() / 2, 2e9)
    assert Limits().disk(tmp_path / "not" / "yet") == pytest.approx(free_disk_bytes(tmp_path) / 2, rel=0.1)
    assert (Limits(memory_gb=3).memory, Limits(disk_gb=0.5).disk(tmp_path)) == (3e9, 5e8)


@pytest.mark.process
@pytest.mark.parametrize(
    ("limits", "since"), [("seconds_an_answer=1", "time.time() - 2"), ("memory_gb=0.01", "None")]
)
def test_a_worker_that_exceeds_its_limits_ends(limits: str, since: str) -> None:
    code = (
        "import time; from fedtransfer.client.deployment.watch import watch; "
        "from fedtransfer.client.deployment.settings import Limits; "
        f"watch(lambda: Limits({limits}), lambda: {since})"
    )
    done = forked.run("-c", code)
    assert done.returncode == watch.EXCEEDED
    assert "the worker ends: " in done.stderr


def test_a_worker_ends_once_it_exceeds_its_time_or_its_memory() -> None:
    limits, now = Limits(seconds_an_answer=60, memory_gb=1.0), time.time()
    assert watch.excess(limits, None, 10**8) == ""
    assert watch.excess(limits, now - 50, 10**8) == ""
    assert "an answer takes more than 60 s" in watch.excess(limits, now - 70, 10**8)
    assert "it uses 1.2 GB of memory, and may use 1 GB" in watch.excess(limits, None, 1_200_000_000)
    assert watch.excess(Limits(seconds_an_answer=0, memory_gb=1.0), now - 10**6, 10**8) == ""
