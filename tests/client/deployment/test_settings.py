from pathlib import Path

import pytest

from fedtransfer.client.deployment.settings import EXCHANGES, SiteFolder
from fedtransfer.common.config.config import BUNDLED, RunConfig
from fedtransfer.common.errors import UserError

SETTINGS = """\
name = "anna"
coordinator = "fed.example.org:9443"
data = "images"
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A site's folder with the three settings that have no default."""
    (tmp_path / "site.toml").write_text(SETTINGS)
    return tmp_path


def refusal(folder: Path, text: str) -> str:
    (folder / "site.toml").write_text(text, "utf-8")
    with pytest.raises(UserError) as caught:
        SiteFolder.open(folder)
    assert str(caught.value).startswith(str(folder / "site.toml"))
    return str(caught.value)


def test_what_is_not_said_asks_nothing_and_forbids_nothing(folder: Path) -> None:
    consent = SiteFolder.open(folder).settings.consent
    assert (consent.methods, consent.rounds_a_day, consent.least_images) == ((), 0, 1)
    assert (consent.demand, consent.bundles) == ((), ("installed",))
    privacy = SiteFolder.open(folder).settings.privacy
    assert (privacy.epsilon, privacy.delta) == (0, 1e-5)
    assert SiteFolder.open(folder).roster is None


def test_a_folder_that_is_no_sites(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"site\.toml.*fedtransfer client init"):
        SiteFolder.open(tmp_path / "nowhere")


def test_a_file_that_is_not_toml(folder: Path) -> None:
    assert "not valid TOML: " in refusal(folder, 'name = "anna')
    (folder / "site.toml").write_bytes(SETTINGS.replace("anna", "Universitätsklinik").encode("cp1252"))
    with pytest.raises(UserError, match=r"site\.toml: not valid TOML: .*utf-8"):
        SiteFolder.open(folder)


def test_a_file_that_cannot_be_read(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def forbidden(*_: object) -> str:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "read_text", forbidden)  # chmod would not stop root
    with pytest.raises(UserError, match=r"site\.toml: Permission denied"):
        SiteFolder.open(folder)


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("colour = 1", "unknown key 'colour'; expected one of: name, "),
        ("thread = 1", "unknown key 'thread'; did you mean 'threads'?"),
        ("[consent]\nmethod = []", "consent: unknown key 'method'; did you mean 'methods'?"),
        (
            '[consent]\nmethods = ["fedprocks"]',
            "methods: got ['fedprocks']; unknown fedprocks; this version has fedavg, ",
        ),
        ("[consent]\nrounds-a-day = -1", "consent.rounds-a-day: got -1; "),
        ("[consent]\nleast-images = 0", "consent.least-images: got 0; "),
        ("[consent]\nbundles = []", 'bundles: got []; expected "installed"'),
        ('[consent]\nbundles = ["instaled"]', "bundles: got ['instaled']; expected \"installed\""),
        ("[classes]\nblue = 3", "classes.blue: got 3; "),
        ("[privacy]\nepsilon = -1", "privacy.epsilon: got -1; "),
        ("[privacy]\ndelta = 0", "privacy.delta: got 0; "),
        ("[privacy]\nepsilom = 1", "privacy: unknown key 'epsilom'; did you mean 'epsilon'?"),
        ("threads = -2", "threads: got -2; "),
    ],
)
def test_settings_that_are_not_right(folder: Path, line: str, told: str) -> None:
    assert told in refusal(folder, SETTINGS + line)


@pytest.mark.parametrize(
    "address",
    ["fed.example.org", "fed.example.org:", ":9443", "https://fed.example.org:9443", "fed.example.org:https",
     "fed.example.org:0", "fed.example.org:99999", "fed example org:9443", "fed.example.org:9443/fleet"],
)  # fmt: skip
def test_an_address_that_is_none(folder: Path, address: str) -> None:
    told = refusal(folder, SETTINGS.replace("fed.example.org:9443", address))
    assert f"coordinator: got '{address}'; expected host:port" in told


@pytest.mark.parametrize(
    "address", ["fed..example.org:1", "b\u00fccher.example:1", f"{'a' * 64}.org:1", ".:1"]
)
def test_host_names_that_no_resolver_takes(folder: Path, address: str) -> None:
    told = refusal(folder, SETTINGS.replace("fed.example.org:9443", address))
    assert "expected a host name with parts of 1 to 63 characters" in told


@pytest.mark.parametrize(
    "address", ["[:::]:9443", "[::1::2]:9443", "[2001:db8]:9443", "[....]:9443", "[12345::]:9443"]
)
def test_brackets_without_an_ipv6_address(folder: Path, address: str) -> None:
    told = refusal(folder, SETTINGS.replace("fed.example.org:9443", address))
    assert f"coordinator: got '{address}'; expected [IPv6 address]:port, as in [2001:db8::7]:9443: " in told


@pytest.mark.parametrize(
    "address",
    [
        "192.0.2.7:9443",
        "[2001:db8::7]:9443",
        "[::1]:9443",
        "[::ffff:192.0.2.7]:1",
        "localhost:1",
        "xn--bcher-kva.example:65535",
    ],
)
def test_addresses(folder: Path, address: str) -> None:
    (folder / "site.toml").write_text(SETTINGS.replace("fed.example.org:9443", address))
    assert SiteFolder.open(folder).settings.coordinator == address


def test_every_mistake_is_told_at_once(folder: Path) -> None:
    told = refusal(folder, 'coordinator = "here"\ndata = ""\nthread = 2\n')
    assert len(told.splitlines()) == 4  # the name is missing, too
    assert "name is missing" in told
    assert "data: got ''" in told


def test_own_files_threads_and_strictness_stand_for_those_of_a_run(folder: Path) -> None:
    own = 'backbone = "nets/own.keras"\nweights = "~/own.h5"\nstore = "kept"\nthreads = 3\nstrict = true\n'
    (folder / "site.toml").write_text(SETTINGS + own)
    config = SiteFolder.open(folder).apply(RunConfig(seed=7, out="elsewhere", strategy="median"))
    assert config.backbone == str(folder / "nets/own.keras")
    assert config.weights == str(Path.home() / "own.h5")
    assert (config.store, config.threads, config.strict) == (str(folder / "kept"), 3, True)
    assert (config.seed, config.out, config.strategy) == (7, "elsewhere", "median")
    (folder / "site.toml").write_text(SETTINGS + 'backbone = "resnet50v2"\n')
    assert SiteFolder.open(folder).apply(RunConfig()).backbone == "resnet50v2"  # a name is no path
    (folder / "site.toml").write_text(SETTINGS)
    assert SiteFolder.open(folder).apply(RunConfig(strict=True)).backbone == BUNDLED
    assert not SiteFolder.open(folder).apply(RunConfig(strict=True)).strict  # that is the site's to say


def test_a_file_of_statistics_stands_for_that_of_a_run_which_has_one(folder: Path) -> None:
    (folder / "site.toml").write_text(SETTINGS + 'feature-statistics = "public.npz"\n')
    site = SiteFolder.open(folder)
    asked = site.apply(RunConfig(feature_statistics="/the/coordinator's.npz"))
    assert asked.feature_statistics == str(folder / "public.npz")
    assert site.apply(RunConfig()).feature_statistics == ""


def test_methods_are_the_strategies_of_this_version(folder: Path) -> None:
    listed = ", ".join(f'"{method}"' for method in EXCHANGES)
    (folder / "site.toml").write_text(f"{SETTINGS}[consent]\nmethods = [{listed}]\n")
    assert SiteFolder.open(folder).settings.consent.methods == EXCHANGES
