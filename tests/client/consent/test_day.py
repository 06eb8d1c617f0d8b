"""Bounds on what a site answers within a day."""

import time
from pathlib import Path

import pytest

from fedtransfer.client.consent.day import refuse_beyond_day
from fedtransfer.client.consent.exchange_log import ExchangeLog
from fedtransfer.client.deployment.settings import MessagesADay, SiteFolder
from fedtransfer.common.config.config import RunConfig
from fedtransfer.common.errors import SiteError
from fedtransfer.common.masks import messages
from fedtransfer.common.wire import protocol

KINDS = {
    "query": protocol.QUERY, "train": protocol.TRAIN, "gather": protocol.GATHER,
    "evaluate": protocol.EVALUATE, "trial": protocol.TRIAL, "personal": protocol.PERSONAL,
    "finish": protocol.FINISH,
}  # fmt: skip


def site_of(folder: Path, limits: str) -> SiteFolder:
    folder.mkdir(exist_ok=True)
    text = f'name = "a"\ncoordinator = "localhost:1"\ndata = "images"\n[messages-a-day]\n{limits}\n'
    (folder / "site.toml").write_text(text)
    return SiteFolder.open(folder)


def answered(site: SiteFolder, kind: str, times: int, hours: float = 0.0, **entry: object) -> None:
    for _ in range(times):
        moment = time.time() - 3600 * hours
        ExchangeLog(site.exchange_log).chain.append({"time": moment, "kind": kind, "shapes": [[1]], **entry})


def is_refused(site: SiteFolder, kind: str) -> bool:
    try:
        refuse_beyond_day(site, RunConfig(), kind)
    except SiteError as error:
        return error.code == "too-many-messages"
    return False


@pytest.mark.parametrize(("key", "kind"), [*KINDS.items(), *(("masks", kind) for kind in messages.KINDS)])
def test_every_kind_of_message_has_a_bound(key: str, kind: str, tmp_path: Path) -> None:
    site = site_of(tmp_path / "site", f"{key} = 3")
    answered(site, kind, 2)
    assert not is_refused(site, kind)
    answered(site, kind, 1)
    assert is_refused(site, kind)
    assert not any(is_refused(site, other) for other in protocol.KINDS if other != kind)


def test_a_new_kind_of_message_gets_a_bound() -> None:
    assert set(KINDS.values()) == set(protocol.KINDS)
    assert set(KINDS) | {"masks"} == set(MessagesADay.model_fields)


def test_a_day_has_24_hours_and_refusals_are_no_answers(tmp_path: Path) -> None:
    site = site_of(tmp_path / "site", "evaluate = 3")
    answered(site, protocol.EVALUATE, 10, hours=24.1)
    answered(site, protocol.EVALUATE, 10, refused="tired")
    answered(site, protocol.EVALUATE, 2, hours=23.9)
    assert not is_refused(site, protocol.EVALUATE)
    answered(site, protocol.EVALUATE, 1)
    assert is_refused(site, protocol.EVALUATE)


def test_by_default_no_kind_is_without_a_bound(tmp_path: Path) -> None:
    site = site_of(tmp_path / "site", "")
    assert all(site.settings.messages_a_day.model_dump().values())


def test_a_log_that_was_replaced_is_counted_again(tmp_path: Path) -> None:
    site = site_of(tmp_path / "site", "trial = 3")
    answered(site, protocol.TRIAL, 3)
    assert is_refused(site, protocol.TRIAL)
    site.exchange_log.rename(tmp_path / "backup")
    assert not is_refused(site, protocol.TRIAL)
    answered(site, protocol.TRIAL, 1)
    (tmp_path / "backup").replace(site.exchange_log)
    assert is_refused(site, protocol.TRIAL)
