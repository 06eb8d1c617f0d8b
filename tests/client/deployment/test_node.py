import logging
import os
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fedtransfer.client.consent.exchange_log import ExchangeLog
from fedtransfer.client.consent.ledger import SiteLedger
from fedtransfer.client.deployment.founding import found_site
from fedtransfer.client.deployment.settings import SiteFolder
from fedtransfer.client.deployment.status import spending_line
from fedtransfer.client.node import DeployedNode, deployed_node, site_images, split_images
from fedtransfer.common.config.config import RunConfig
from fedtransfer.common.data.images import Image
from fedtransfer.common.errors import SiteError, UserError
from fedtransfer.common.privacy.accounting import Release, epsilon
from fedtransfer.common.wire import protocol


@pytest.fixture
def site(tmp_path: Path, folder_of_classes: Callable[..., Path]) -> SiteFolder:
    """A site with 12 red, 12 green and 12 blue pictures."""
    return found_site(tmp_path / "site", "anna", "localhost:9443", None, folder_of_classes(12))


def change(site: SiteFolder, old: str, new: str) -> SiteFolder:
    path = site.folder / "site.toml"
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))
    later = path.stat().st_mtime_ns + 10**9  # people take longer between two changes than tests do
    os.utime(path, ns=(later, later))
    return SiteFolder.open(site.folder)


def refusal(site: SiteFolder, config: RunConfig, kind: str = protocol.QUERY) -> SiteError | None:
    place = deployed_node(str(site.folder))
    try:
        place.refuse(config, kind)
    except SiteError as error:
        return error
    return None


def labels(site: SiteFolder) -> dict[str, int]:
    found = [image.label for image in site_images(site)]
    return {label: found.count(label) for label in sorted(set(found))}


def test_a_site_without_wishes_refuses_nothing(site: SiteFolder) -> None:
    for kind in (protocol.QUERY, protocol.TRAIN, protocol.EVALUATE, protocol.FINISH):
        assert refusal(site, RunConfig(rounds=10_000, strategy="median"), kind) is None


def test_another_method_is_refused_in_every_message(site: SiteFolder) -> None:
    change(site, "methods = []", 'methods = ["fedprox", "median"]')
    for kind in (protocol.QUERY, protocol.TRAIN, protocol.EVALUATE, protocol.FINISH):
        told = refusal(site, RunConfig(), kind)
        assert told is not None
        assert told.code == "method-not-allowed"
        assert re.search("fedprox, median .*fedavg", told.text)
        assert refusal(site, RunConfig(strategy="fedprox"), kind) is None


def test_consent_to_fedavg_is_consent_to_a_strategy_from_outside(site: SiteFolder) -> None:
    """What it does is all at the server; the site neither has the module nor looks for it."""
    from_outside = RunConfig(strategy="only_the_server_has_it:STRATEGY")
    change(site, "methods = []", 'methods = ["fedavg"]')
    assert refusal(site, from_outside) is None
    change(site, 'methods = ["fedavg"]', 'methods = ["fedprox"]')
    told = refusal(site, from_outside)
    assert told is not None
    assert re.search("fedprox only, the run uses fedavg", told.text)


def test_the_head_that_a_run_begins_with_is_a_method_of_it(site: SiteFolder) -> None:
    change(site, "methods = []", 'methods = ["fedprox", "fedncm"]')
    for kind in protocol.KINDS:
        told = refusal(site, RunConfig(strategy="fedprox", init="fed3r"), kind)
        assert told is not None
        assert told.code == "method-not-allowed"
        assert re.search("fedprox, fedncm .*fed3r", told.text)
        assert refusal(site, RunConfig(strategy="fedprox", init="fedncm"), kind) is None
        assert refusal(site, RunConfig(strategy="fedncm"), kind) is None
    told = refusal(site, RunConfig(init="fed3r", lda=True))
    assert told is not None
    assert "fed3r, fedavg" in told.text


def test_a_mechanism_that_no_version_has_refuses_every_run(site: SiteFolder) -> None:
    change(site, "demand = []", 'demand = ["secure-aggregation"]')
    told = refusal(site, RunConfig())
    assert told is not None
    assert told.code == "demand-not-met"
    assert "secure-aggregation" in told.text


def test_whose_word_is_taken_for_keys_is_said_in_the_log(
    site: SiteFolder, caplog: pytest.LogCaptureFixture
) -> None:
    masked = RunConfig(classes="declared", class_names="red,green,blue", masks=True)
    refusal(site, RunConfig())
    assert "no roster" not in caplog.text
    refusal(site, masked)
    assert "no roster" in caplog.text
    caplog.clear()
    change(site, 'roster = ""', 'roster = "roster.toml"')
    refusal(site, masked)
    assert "no roster" not in caplog.text


def test_rounds_a_day(site: SiteFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    change(site, "rounds-a-day = 0", "rounds-a-day = 10")
    since: list[float] = []

    def done(rounds: int) -> None:
        monkeypatch.setattr(ExchangeLog, "rounds_since", lambda _, moment: since.append(moment) or rounds)

    done(4)
    told = refusal(site, RunConfig(rounds=7))
    assert told is not None
    assert told.code == "too-many-rounds"
    assert re.search(r"\b10 rounds .*\b24 hours .*\b4; .*\b7 more", told.text)
    assert since == [pytest.approx(time.time() - 24 * 3600, abs=60)]
    assert refusal(site, RunConfig(rounds=6)) is None
    assert refusal(site, RunConfig(rounds=7, resume=True)) is None, (
        "how many are left of it the site cannot know"
    )
    assert refusal(site, RunConfig(rounds=7), protocol.TRAIN) is None
    done(10)
    told = refusal(site, RunConfig(rounds=7), protocol.TRAIN)
    assert told is not None
    assert re.search(r"\b10; .*\b1 more", told.text)
    for kind in (protocol.EVALUATE, protocol.FINISH, protocol.TRIAL, protocol.PERSONAL):
        assert refusal(site, RunConfig(rounds=7), kind) is None, "to be scored is no training"


@pytest.mark.parametrize(
    ("settings", "wanted"),
    [
        ({"rounds": 5, "init": "fed3r"}, 6),
        ({"rounds": 5, "standardise": "federated"}, 6),
        ({"rounds": 5, "standardise": "federated", "init": "fedncm"}, 7),
        ({"strategy": "fed3r"}, 1),
        ({"strategy": "fed3r", "standardise": "federated"}, 2),
        ({"rounds": 5, "personal_epochs": 9}, 5),
    ],
)
def test_sums_are_a_round_each_time(
    site: SiteFolder, monkeypatch: pytest.MonkeyPatch, settings: dict[str, Any], wanted: int
) -> None:
    change(site, "rounds-a-day = 0", "rounds-a-day = 10")
    config = RunConfig(**settings)
    for done in (10 - wanted, 11 - wanted):
        monkeypatch.setattr(ExchangeLog, "rounds_since", lambda *_, done=done: done)
        told = refusal(site, config)
        assert (told is None) == (done + wanted <= 10)
    assert told is not None
    assert re.search(rf"\b{11 - wanted}; .*\b{wanted} more", told.text)
    for done in (9, 10):
        monkeypatch.setattr(ExchangeLog, "rounds_since", lambda *_, done=done: done)
        assert (refusal(site, config, protocol.GATHER) is None) == (done == 9)


def test_refusals_name_nothing_of_the_site(site: SiteFolder) -> None:
    change(site, "methods = []", 'methods = ["fedprox"]')
    told = refusal(site, RunConfig())
    assert told is not None
    assert str(site.folder) not in told.text
    assert not {"red", "green", "blue"} & set(told.text.split())


def test_a_change_of_site_toml_counts_from_the_next_message_on(site: SiteFolder) -> None:
    assert refusal(site, RunConfig()) is None
    change(site, "methods = []", 'methods = ["fedprox"]')
    assert refusal(site, RunConfig()) is not None
    (site.folder / "site.toml").write_text("name = ")
    with pytest.raises(UserError, match=r"site\.toml: not valid TOML"):
        deployed_node(str(site.folder))
    (site.folder / "site.toml").unlink()
    with pytest.raises(UserError, match="is not a site's folder"):
        deployed_node(str(site.folder))


def test_classes_go_by_the_federations_names(site: SiteFolder) -> None:
    assert labels(site) == {"blue": 12, "green": 12, "red": 12}
    mapped = change(site, "[classes]", '[classes]\n"blue" = "cold"\n"red" = "warm"\n"green" = "cold"')
    assert labels(mapped) == {"cold": 24, "warm": 12}
    without = change(site, '"red" = "warm"', '"red" = ""')
    assert labels(without) == {"cold": 24}


def test_a_class_that_the_site_does_not_have_cannot_be_mapped(site: SiteFolder) -> None:
    changed = change(site, "[classes]", '[classes]\n"blau" = "blue"')
    with pytest.raises(UserError, match=r"site\.toml, \[classes\]: 'blau' .*'blue', 'green', 'red'"):
        site_images(changed)


def test_rare_classes_are_kept_out_and_named_at_the_site_only(
    site: SiteFolder, caplog: pytest.LogCaptureFixture
) -> None:
    for picture in sorted((Path(site.settings.data) / "green").iterdir())[4:]:
        picture.unlink()
    changed = change(site, "least-images = 1", "least-images = 5")
    with caplog.at_level(logging.WARNING):
        assert labels(changed) == {"blue": 12, "red": 12}
    assert re.search(r"\b5 images: green", caplog.text)
    assert labels(change(site, "least-images = 5", "least-images = 4")) == {"blue": 12, "green": 4, "red": 12}
    together = change(changed, "least-images = 4", "least-images = 16")
    joined = change(together, "[classes]", '[classes]\n"green" = "cold"\n"blue" = "cold"')
    assert labels(joined) == {"cold": 16}, "what is one class in the federation is counted together"


def test_nothing_left(site: SiteFolder) -> None:
    changed = change(site, "least-images = 1", "least-images = 13")
    with pytest.raises(UserError, match=r"\[classes\] and least-images = 13"):
        site_images(changed)


def test_own_images_are_divided_as_in_the_run(site: SiteFolder) -> None:
    config = RunConfig(seed=3)
    parts = {split: split_images(site, config, split) for split in ("train", "validation", "test", "all")}
    assert all(not problems for _, problems in parts.values())
    paths = {split: {image.path for image in images} for split, (images, _) in parts.items()}
    assert len(paths["all"]) == 36
    assert paths["train"] | paths["validation"] | paths["test"] == paths["all"]
    assert sum(len(paths[split]) for split in ("train", "validation", "test")) == 36
    assert split_images(site, RunConfig(seed=4), "test") != parts["test"]


def test_own_images_that_are_not_there(site: SiteFolder) -> None:
    with pytest.raises(UserError, match="--split nonsense: expected train, "):
        split_images(site, RunConfig(), "nonsense")
    data = Path(site.settings.data)
    for picture in [*data.glob("*/*.png")][1:]:
        picture.unlink()
    splits = [split for split in ("train", "validation", "test") if not _has(site, split)]
    assert len(splits) == 2
    with pytest.raises(UserError, match=f"no {splits[0]} images; .*--split all"):
        split_images(site, RunConfig(), splits[0])


def _has(site: SiteFolder, split: str) -> bool:
    try:
        return bool(split_images(site, RunConfig(), split))
    except UserError:
        return False


def test_an_unreadable_image_is_a_problem_not_an_end(
    site: SiteFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = Image.read

    def failing(image: Image) -> bytes:
        if image.path.endswith("0.png") and "red" in image.path:
            raise PermissionError(13, "Permission denied")
        return read(image)

    monkeypatch.setattr(Image, "read", failing)
    images, problems = split_images(site, RunConfig(), "all")
    assert len(images) + len(problems) == 36
    assert problems
    assert {problem.reason for problem in problems} == {"Permission denied"}


def test_a_place_is_where_the_site_says(site: SiteFolder) -> None:
    place = deployed_node(str(site.folder))
    assert isinstance(place, DeployedNode)
    assert (place.data, place.state, place.partition) == (site.settings.data, site.state, "")
    assert place.settings(RunConfig(threads=9)).threads == 0
    assert place.settings(RunConfig()).store == str(site.folder / "features")
    assert [image.label for image in place.images()] == [image.label for image in site_images(site)]


@pytest.mark.parametrize(
    ("lines", "run", "held"),
    [
        ("", {}, True),
        ("", {"backbone": "resnet50v2"}, False),
        ("", {"backbone": "/etc/other.keras"}, False),
        ('backbone = "own.keras"', {"backbone": "/srv/other.keras"}, True),
        ('backbone = "resnet50v2"', {"backbone": "resnet50v2", "weights": "/etc/shadow.h5"}, True),
        ('weights = "own.weights.h5"', {"backbone": "resnet50v2", "weights": "/etc/shadow.h5"}, True),
        ('weights = "own.weights.h5"', {"backbone": "/etc/other.keras"}, False),
    ],
)
def test_a_run_cannot_make_a_site_open_or_fetch_what_it_does_not_name(
    tmp_path: Path, lines: str, run: dict[str, str], held: bool
) -> None:
    (tmp_path / "site.toml").write_text(
        f'name = "a"\ncoordinator = "localhost:1"\ndata = "images"\n{lines}\n'
    )
    place = deployed_node(str(tmp_path))
    config = place.settings(RunConfig(**run))
    if held:
        place.refuse(config, "query")
        assert "/etc" not in config.backbone + config.weights
        assert "/srv" not in config.backbone + config.weights
    else:
        with pytest.raises(SiteError, match="another backbone ") as caught:
            place.refuse(config, "query")
        assert caught.value.code == "backbone-not-held"


def test_a_run_cannot_make_a_site_open_statistics_that_it_does_not_name(tmp_path: Path) -> None:
    path = tmp_path / "site.toml"
    path.write_text('name = "a"\ncoordinator = "localhost:1"\ndata = "images"\n')
    run = RunConfig(feature_statistics="/etc/public.npz")
    place = deployed_node(str(tmp_path))
    with pytest.raises(SiteError, match=r"site\.toml, as feature-statistics") as caught:
        place.refuse(place.settings(run), "query")
    assert caught.value.code == "statistics-not-held"
    path.write_text(path.read_text() + 'feature-statistics = "public.npz"\n')
    os.utime(path, ns=(1, 1))
    place = deployed_node(str(tmp_path))
    place.refuse(place.settings(run), "query")
    assert place.settings(run).feature_statistics == str(tmp_path / "public.npz")


def test_settings_that_change_make_another_place(tmp_path: Path) -> None:
    """So that the images are chosen anew, in the middle of a run too."""
    path = tmp_path / "site.toml"
    path.write_text('name = "a"\ncoordinator = "localhost:1"\ndata = "images"\n')
    before = deployed_node(str(tmp_path))
    assert deployed_node(str(tmp_path)) == before
    path.write_text(path.read_text() + "[consent]\nleast-images = 7\n")
    os.utime(path, ns=(1, 1))
    after = deployed_node(str(tmp_path))
    assert after != before
    assert after.least_images == 7


PRIVATE = {
    "dp": "image", "noise_multiplier": 1.0, "rounds": 2, "local_steps": 5, "weighting": "uniform",
    "classes": "declared", "class_names": "red,green,blue",
}  # fmt: skip


@pytest.mark.parametrize(
    ("demand", "without", "within", "told"),
    [
        ("dp", {}, PRIVATE, "dp, and the run has none; give --dp site or --dp image"),
        ("dp", {}, {**PRIVATE, "dp": "site", "local_steps": 0},
         "dp, and the run has none; give --dp site or --dp image"),
        ("image-dp", {**PRIVATE, "dp": "site", "local_steps": 0}, PRIVATE,
         "image-dp, and the run has none; give --dp image"),
        ("masks", PRIVATE, {**PRIVATE, "masks": True}, "masks, and the run has none; give --masks"),
    ],
)  # fmt: skip
def test_a_demand_is_for_the_runs_settings(
    site: SiteFolder, demand: str, without: dict[str, Any], within: dict[str, Any], told: str
) -> None:
    change(site, "demand = []", f'demand = ["{demand}"]')
    for kind in protocol.KINDS:
        refused = refusal(site, RunConfig(**without), kind)
        assert refused is not None
        assert (refused.code, refused.text) == ("demand-not-met", f"this site demands {told}")
        assert refusal(site, RunConfig(**within), kind) is None


def test_all_that_is_demanded_must_be_there(site: SiteFolder) -> None:
    change(site, "demand = []", 'demand = ["image-dp", "masks"]')
    for settings, missing in (({}, "image-dp"), (PRIVATE, "masks")):
        refused = refusal(site, RunConfig(**settings))
        assert refused is not None
        assert missing in refused.text
    assert refusal(site, RunConfig(**PRIVATE, masks=True)) is None


def test_what_a_ledger_of_the_old_name_says_still_counts(site: SiteFolder) -> None:
    place = deployed_node(str(site.folder))
    change(site, "epsilon = 0.0", "epsilon = 2")
    place.ledger.charge("train", "1", 1, Release(0.05, 1.0), 1000, 1.0)
    place.ledger.path.rename(site.folder / "privacy.jsonl")
    refused = refusal(site, RunConfig(**PRIVATE))
    assert refused is not None
    assert refused.code == "budget-spent"
    assert deployed_node(str(site.folder)).ledger.spent() == {Release(0.05, 1.0): 1000}


def test_a_budget_that_a_run_would_exceed(site: SiteFolder) -> None:
    place = deployed_node(str(site.folder))
    assert place.ledger == SiteLedger(site.folder / "site-privacy.jsonl", durable=True)
    changed = change(site, "epsilon = 0.0", "epsilon = 2")
    assert refusal(site, RunConfig(**PRIVATE)) is None
    refused = refusal(site, RunConfig(**PRIVATE | {"rounds": 50}))
    assert refused is not None
    assert refused.code == "budget-spent"
    assert "epsilon 2 at delta 1e-05 " in refused.text
    assert refusal(site, RunConfig(**PRIVATE | {"rounds": 50}), protocol.TRAIN) is None
    place.ledger.charge("train", "1", 1, Release(0.05, 1.0), 1000, 1.0)
    for kind in (protocol.QUERY, protocol.TRAIN):
        refused = refusal(site, RunConfig(**PRIVATE), kind)
        assert refused is not None
        assert refused.code == "budget-spent"
    words = spending_line(changed)
    assert words.startswith(f"epsilon {epsilon({Release(0.05, 1.0): 1000}, 1e-5):.3g} at delta 1e-05 ")
    assert "of 2 " in words


def test_one_unreadable_image_must_not_end_a_run_that_protects_images(site: SiteFolder) -> None:
    change(site, "strict = false", "strict = true")
    assert refusal(site, RunConfig()) is None
    refused = refusal(site, RunConfig(**PRIVATE))
    assert refused is not None
    assert refused.code == "strict"


def test_rare_classes_are_hidden_by_noise_or_kept_out_but_not_both(site: SiteFolder) -> None:
    """Whether a whole class is kept out would hang on one image."""
    change(site, "least-images = 1", "least-images = 5")
    assert refusal(site, RunConfig()) is None
    refused = refusal(site, RunConfig(**PRIVATE))
    assert refused is not None
    assert refused.code == "rare-classes"
    assert "fewer than 5 images" in refused.text
