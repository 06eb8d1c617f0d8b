import stat
from pathlib import Path

import pytest

from fedtransfer.client.deployment.founding import found_site, replace_key
from fedtransfer.client.deployment.keys import load_keys
from fedtransfer.client.deployment.settings import SiteFolder
from fedtransfer.common.errors import UserError

ADDRESS = "fed.example.org:9443"


@pytest.fixture
def authority(tmp_path: Path) -> Path:
    (tmp_path / "given.crt").write_text("the authority's certificate\n")
    return tmp_path / "given.crt"


@pytest.fixture
def data(tmp_path: Path) -> Path:
    (tmp_path / "images").mkdir()
    return tmp_path / "images"


def test_a_folder_that_can_be_opened_and_explains_itself(tmp_path: Path, authority: Path, data: Path) -> None:
    site = found_site(tmp_path / "deep" / "site", "St. Anna", ADDRESS, authority, data)
    assert SiteFolder.open(site.folder).settings == site.settings
    assert (site.settings.name, site.settings.coordinator, site.settings.data) == (
        "St. Anna",
        ADDRESS,
        str(data),
    )
    assert site.authority.read_bytes() == authority.read_bytes()
    load_keys(site.key)
    assert site.key.with_suffix(".pub").read_text().endswith(" St. Anna\n")
    assert stat.S_IMODE(site.state.stat().st_mode) == 0o700
    text = (site.folder / "site.toml").read_text()
    settings = {line.split(" = ")[0].strip("# ") for line in text.splitlines() if " = " in line}
    whole = site.settings
    tables = [
        type(table).model_fields
        for table in (whole, whole.consent, whole.privacy, whole.limits, whole.messages_a_day)
    ]
    assert {str(field.alias) for table in tables for field in table.values()} - {
        "classes",
        "consent",
        "privacy",
        "limits",
        "messages-a-day",
    } <= settings


@pytest.mark.parametrize("name", ['the "Charité"', r"back\slash", "{braces}", "日本"])
def test_any_name_and_path_can_be_written_down(tmp_path: Path, name: str) -> None:
    (tmp_path / name).mkdir()
    site = found_site(tmp_path / "site", name, ADDRESS, None, tmp_path / name)
    assert (site.settings.name, site.settings.data) == (name, str(tmp_path / name))


def test_a_site_is_not_made_twice(tmp_path: Path, data: Path) -> None:
    site = found_site(tmp_path / "site", "anna", ADDRESS, None, data)
    before = site.key.read_bytes()
    with pytest.raises(UserError, match=r"already; .*site\.toml"):
        found_site(tmp_path / "site", "bert", ADDRESS, None, data)
    assert SiteFolder.open(site.folder).settings.name == "anna"
    assert site.key.read_bytes() == before


def test_files_that_are_not_there(tmp_path: Path, authority: Path, data: Path) -> None:
    with pytest.raises(UserError, match=r"gone\.crt: .*ca\.crt"):
        found_site(tmp_path / "site", "anna", ADDRESS, tmp_path / "gone.crt", data)
    with pytest.raises(UserError, match=r"gone: no such"):
        found_site(tmp_path / "site", "anna", ADDRESS, authority, tmp_path / "gone")
    assert not (tmp_path / "site").exists()


def test_a_folder_that_cannot_be_made(tmp_path: Path, authority: Path, data: Path) -> None:
    with pytest.raises(UserError, match=r"given\.crt: cannot be written"):
        found_site(authority, "anna", ADDRESS, authority, data)


def test_after_a_mistake_the_same_command_can_be_given_again(tmp_path: Path, data: Path) -> None:
    with pytest.raises(UserError, match=r"coordinator: got 'https://fed.*'; expected host:port"):
        found_site(tmp_path / "site", "anna", "https://fed.example.org", None, data)
    assert not (tmp_path / "site" / "site.key").exists()
    found_site(tmp_path / "site", "anna", ADDRESS, None, data)


def test_a_key_of_before_is_kept(tmp_path: Path, data: Path) -> None:
    """Who writes site.toml anew is still the site that was enrolled."""
    site = found_site(tmp_path / "site", "anna", ADDRESS, None, data)
    before = site.key.read_bytes()
    (site.folder / "site.toml").unlink()
    found_site(tmp_path / "site", "anna", ADDRESS, None, data)
    assert site.key.read_bytes() == before


def test_a_new_key_takes_the_place_of_the_old_one_which_is_put_aside(tmp_path: Path, data: Path) -> None:
    site = found_site(tmp_path / "site", "anna", ADDRESS, None, data)
    old = {site.key.read_bytes(), site.key.with_suffix(".pub").read_bytes()}
    (site.state / "node-id").write_text("7")  # Flower's number for the old key
    line = replace_key(site)
    assert site.key.with_suffix(".pub").read_text() == line + "\n"
    assert not old & {site.key.read_bytes(), site.key.with_suffix(".pub").read_bytes()}
    assert old == {path.read_bytes() for path in site.folder.glob("site.*.until-*")}
    assert not (site.state / "node-id").exists()
    load_keys(site.key)


def test_a_lost_key_is_replaced(tmp_path: Path, data: Path) -> None:
    site = found_site(tmp_path / "site", "anna", ADDRESS, None, data)
    site.key.unlink()
    replace_key(site)
    load_keys(site.key)
