"""What the coordinator says of a site's key, and what is no word of the coordinator's."""

from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import pytest

from fedtransfer.client.deployment.fleet import Fleet, connect
from fedtransfer.client.deployment.keys import make_keys
from fedtransfer.client.deployment.settings import SiteFolder
from fedtransfer.common.errors import UserError


def error(status: int, kind: str = "application/json", ahead: float = 0.0) -> httpx.HTTPStatusError:
    request = httpx.Request("POST", "https://hub:9443/v1/fleet/get-run")
    date = format_datetime(datetime.now(UTC) - timedelta(seconds=ahead), usegmt=True)
    headers = {"content-type": kind, "date": date}
    response = httpx.Response(status, headers=headers, request=request)
    return httpx.HTTPStatusError("", request=request, response=response)


class Client:
    """Answers as the coordinator, or something in between, would."""

    def __init__(self, **answers: Any) -> None:
        self.answers, self.requests = answers, list[str]()

    def __getattr__(self, name: str) -> Any:
        def ask(request: object) -> Any:
            self.requests.append(name)
            answer = self.answers.get(name, SimpleNamespace(node_id=7))
            if isinstance(answer, Exception):
                raise answer
            return answer

        return ask


@pytest.fixture
def site(tmp_path: Path) -> SiteFolder:
    (tmp_path / "state").mkdir()
    (tmp_path / "site.toml").write_text('name = "a"\ncoordinator = "localhost:1"\ndata = "images"\n')
    return SiteFolder.open(tmp_path)


def fleet(site: SiteFolder, client: Client) -> Fleet:
    return Fleet(site, client, b"key")  # type: ignore[arg-type]


@pytest.mark.parametrize("content", [None, b"", b"\0\0\0\0", b"seven", b"-5", b"9" * 30, b"\xff"])
def test_a_damaged_number_is_learnt_again(site: SiteFolder, content: bytes | None) -> None:
    number = site.state / "node-id"
    if content is not None:
        number.write_bytes(content)
    client = Client(GetRun=error(403))
    assert not fleet(site, client).end_last_session()
    assert client.requests == []
    assert fleet(site, client).is_enrolled()
    assert client.requests == ["ActivateNode", "DeactivateNode"]
    assert number.read_text() == "7"
    assert fleet(site, client).is_enrolled()
    assert client.requests[2:] == ["GetRun"], "that is asked from now on"


def test_a_key_that_is_not_enrolled(site: SiteFolder) -> None:
    assert not fleet(site, Client(ActivateNode=error(412))).is_enrolled()
    (site.state / "node-id").write_text("7")
    assert not fleet(site, Client(GetRun=error(401), ActivateNode=error(401))).is_enrolled()


@pytest.mark.parametrize("status", [403, 404, 407, 500, 502])
@pytest.mark.parametrize("request_name", ["GetRun", "DeactivateNode"])
def test_a_proxys_page_says_nothing_of_the_key(site: SiteFolder, status: int, request_name: str) -> None:
    (site.state / "node-id").write_text("7")
    fleet_of = fleet(site, Client(**{request_name: error(status, "text/html")}))
    ask = fleet_of.is_enrolled if request_name == "GetRun" else fleet_of.end_last_session
    with pytest.raises(httpx.HTTPStatusError):
        ask()


def test_a_clock_that_is_wrong_is_no_unknown_key(site: SiteFolder) -> None:
    (site.state / "node-id").write_text("7")
    with pytest.raises(UserError, match=r"clock is \+[67][0-9] s off the coordinator's.*; use NTP"):
        fleet(site, Client(GetRun=error(401, ahead=70))).is_enrolled()


@pytest.mark.parametrize("content", [None, b"", b"no certificate"])
def test_an_authority_that_cannot_be_read(site: SiteFolder, content: bytes | None) -> None:
    make_keys(site.key, "a")
    if content is not None:
        site.authority.write_bytes(content)
    refusal = r"ca\.crt: .*; ask the coordinator's people for ca\.crt"
    with pytest.raises(UserError, match=refusal), connect(site):
        pass
