from pathlib import Path

import pytest

from fedtransfer.common.errors import UserError
from fedtransfer.common.support.keys import read_roster, roster_text

ANNA, BERT = "SHA256:" + "a" * 43, "SHA256:" + "B/+" + "b" * 40


def test_what_one_side_writes_the_other_reads(tmp_path: Path) -> None:
    sites = {"st.anna-2": ANNA, "bert": BERT}  # a dot would make a table of an unquoted name
    (tmp_path / "roster.toml").write_text(roster_text(sites))
    assert read_roster(tmp_path / "roster.toml").sites == sites


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "sites is missing"),
        ("[sites]", "sites: got {}; dictionary should have at least 1 item"),
        ("[sites]\nanna = 'ecdsa-sha2-nistp384 AAAA'", "anna: expected SHA256: and 43 characters"),
        (f"[sites]\nanna = '{ANNA}='", "anna: expected SHA256: and 43 characters"),
        (f"[sites]\nanna = '{ANNA}'\nbert = '{ANNA}'", "anna, bert have the same key; a site with two names"),
        (f"[site]\nanna = '{ANNA}'", "unknown key 'site'"),
    ],
)
def test_a_roster_that_is_not_right(tmp_path: Path, text: str, told: str) -> None:
    (tmp_path / "roster.toml").write_text(text)
    with pytest.raises(UserError, match=r"roster\.toml: ") as caught:
        read_roster(tmp_path / "roster.toml")
    assert told in str(caught.value)


def test_a_roster_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"gone\.toml: .*fedtransfer server roster"):
        read_roster(tmp_path / "gone.toml")
