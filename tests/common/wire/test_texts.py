"""Texts from the other side: how long, and of which characters."""

import json
from dataclasses import fields, is_dataclass
from typing import get_type_hints

import pytest
from flwr.app import ConfigRecord, RecordDict

from fedtransfer.common.config.config import RunConfig
from fedtransfer.common.errors import SiteError
from fedtransfer.common.masks import messages
from fedtransfer.common.support.text import printable
from fedtransfer.common.wire import protocol
from fedtransfer.common.wire.protocol import Description, ProtocolError, Query
from fedtransfer.common.wire.records import pack, unpack
from fedtransfer.common.wire.texts import check_settings

HOSTILE = {
    "escape codes": "north\x1b[1A\x1b[2K",
    "a line feed": "north\nsouth",
    "a tab": "north\tsouth",
    "NUL": "no\0rth",
    "a change of direction": "north \u202egnp.exe",
    "half a pair": "north\ud800",
    "a line separator": "north\u2028south",
    "a private sign": "north\ue000",
}
HONEST = ("Befund positiv", "犬 2", "größte", "می\u200cخواهم", "a/b", "=x", "9\u00a0mm", "🐈", "x" * 255)


def named(name: str) -> RecordDict:
    """Describe a site with a class of this name, as an honest site cannot."""
    records = pack(Description({"red": (1, 2, 3)}, 0))
    said = {"images": {name: [1, 2, 3]}, "unreadable": 0, "partition": ""}
    head = {**records.config_records["head"], "said": json.dumps(said)}
    return RecordDict({"head": ConfigRecord(head)})


@pytest.mark.parametrize("name", HOSTILE.values(), ids=HOSTILE.keys())
def test_a_name_that_does_not_print_is_refused_in_words_that_do(name: str) -> None:
    with pytest.raises(ProtocolError, match="expected characters that print") as caught:
        unpack(named(name), Description)
    assert str(caught.value) == printable(str(caught.value))


@pytest.mark.parametrize("name", HONEST)
def test_names_of_all_scripts_pass(name: str) -> None:
    assert unpack(named(name), Description).images == {name: (1, 2, 3)}


def test_a_name_has_at_most_255_characters() -> None:
    with pytest.raises(ProtocolError, match="a name of 3,000,000 characters, expected at most 255"):
        unpack(named("x" * 3 * 10**6), Description)


def test_a_list_has_an_end() -> None:
    with pytest.raises(ProtocolError, match="a list of 131,073 entries, expected at most 131,072"):
        unpack(pack(Query("net", 64, "f" * 64, ("a",) * (2**17 + 1))), Query)


@pytest.mark.parametrize("fingerprint", ["f" * 1001, "ff\n", "ff\x1b[2J", "ｆｆ", 64])
def test_what_programs_read_is_short_and_plain(fingerprint: object) -> None:
    with pytest.raises(ProtocolError, match="token"):
        unpack(pack(Query("net", 64, fingerprint)), Query)  # type: ignore[arg-type]


def test_an_error_that_quotes_a_message_is_short_and_prints() -> None:
    records = pack(Query("net", 64, "f" * 64))
    head = {**records.config_records["head"], "kind": "\x1b[2J" + "k" * 10**6}
    with pytest.raises(ProtocolError, match=r"sent '\\x1b") as caught:
        unpack(RecordDict({"head": ConfigRecord(head)}), Query)
    assert len(str(caught.value)) <= 1000


def test_a_site_cuts_and_escapes_what_it_refuses_with() -> None:
    with pytest.raises(SiteError) as caught:
        unpack(pack(SiteError("code", "no\x1b[2J " + "x" * 5000)), Query)
    assert caught.value.text.startswith(r"no\x1b[2J xxx")
    assert len(caught.value.text) == 1000


@pytest.mark.parametrize("kind", [*vars(protocol).values(), *vars(messages).values()])
def test_no_field_of_any_message_is_a_text_without_bounds(kind: object) -> None:
    if is_dataclass(kind) and kind is not messages.Session:  # which is a part of each
        hints = get_type_hints(kind, include_extras=True)
        assert not [field.name for field in fields(kind) if hints[field.name] in (str, tuple[str, ...])]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"strategy": "x" * 1_500_000}, "a strategy of 1,500,000 characters, expected at most 4,096"),
        ({"strategy": "fedavg\x1b[1A"}, r"the strategy 'fedavg\\x1b\[1A', expected characters that print"),
        ({"class-names": "a," * 100_001}, "a class-names of 200,002 characters"),
        ({f"key-{i}": 1 for i in range(500)}, "settings, expected at most 500"),
        ({"x" * 10**6: 1}, "a token of 1,000,000 characters"),
    ],
)
def test_settings_of_a_run_are_refused_before_anything_reads_them(
    changes: dict[str, object], words: str
) -> None:
    with pytest.raises(SiteError, match=words):
        check_settings(RunConfig().to_flat() | changes)


def test_settings_of_an_honest_run_pass() -> None:
    check_settings(RunConfig(classes="declared", class_names="Katze,犬,größte").to_flat())
