"""``fedtransfer client init``: make a site's folder, with a commented ``site.toml``."""

import getpass
import shutil
from datetime import UTC, datetime
from pathlib import Path

import tomli_w

from fedtransfer.client.deployment.keys import make_keys, write_public
from fedtransfer.client.deployment.settings import EXCHANGES, MECHANISMS, SETTINGS, SiteFolder
from fedtransfer.common.errors import UserError
from fedtransfer.common.support.files import write_whole
from fedtransfer.common.support.processes import tool
from fedtransfer.common.support.services import service_unit

UNIT = "fedtransfer-site.service"
_GPU = ("# Devices: a GPU, if there is one.", "DevicePolicy=closed", "DeviceAllow=char-nvidia* rw")

_TEMPLATE = """\
# Settings of this site. Paths are relative to this folder. After a change: fedtransfer client check

{name}
{coordinator}
authority = "ca.crt"      # the coordinator's authority; compare its SHA-256 with the coordinator's people
{data}

# Files that replace those of the same name in a run's settings; "" takes the run's.
backbone = ""
weights = ""
feature-statistics = ""   # public statistics of the backbone's features, for runs that use such a file

store = "features"        # features are stored here, so that each image passes through the backbone once
threads = 0               # image batches extracted at a time; 0: one per core
compute = "auto"          # what computes features: openvino, tensorflow, or what suits this machine
strict = false            # true: stop at the first image that cannot be read
roster = ""               # sites to share masks with, by fingerprint: fedtransfer client roster --help

# Your name for a class = the federation's name for it; "" leaves the class out of the federation.
[classes]
# "Befund positiv" = "positive"
# "not sure" = ""

# What a run may ask of this site. A run that asks for more is refused, and the coordinator learns why.
[consent]
# methods that you allow, among {methods};
# both a run's strategy and the head that it begins with (--init) must be listed; [] allows any
methods = []
rounds-a-day = 0          # rounds within 24 hours, over all runs; each sum of features counts as one;
                          # 0: no limit
least-images = 1          # classes with fewer training images are left out: an update would reveal
                          # their features
demand = []               # privacy mechanisms that a run must use, among {mechanisms}
bundles = ["installed"]   # hashes of the app bundles to answer; "installed": that of your own fedtransfer

# What a run may cost this site. A run that needs more is refused before work begins, with the numbers.
[limits]
memory-gb = 0.0           # 0: half of this machine's memory; a worker that uses more is started again
disk-gb = 0.0             # of all stored features; 0: half of the disk that they have or could have
seconds-an-answer = 3600  # a worker that works longer at one is started again; 0: no limit
hours-to-prepare = 24.0   # for a run's features; 0: no limit

# The most messages of a kind that are answered within 24 hours, over all runs; 0: no limit. No run asks
# for as many.
[messages-a-day]
query = 100000            # descriptions, and the progress of features that are being made
train = 100000            # rounds of training
gather = 1000             # sums of features
evaluate = 10000          # scores of a head
trial = 1000              # scores of several heads
personal = 1000           # personal heads
finish = 1000             # results
masks = 200000            # each of the four stages of secure aggregation

# Privacy that all runs together may spend on one of your images (a training image added or removed).
# With a limit, only runs with --dp image are answered, because all others spend without limit.
# site-privacy.jsonl records what was spent.
[privacy]
epsilon = 0.0             # 0: no limit
delta = 1e-5              # well below 1 / number of your training images
"""


def found_site(folder: Path, name: str, coordinator: str, authority: Path | None, data: Path) -> SiteFolder:
    """Make a site's folder with settings and a new key pair.

    ``authority`` is the coordinator's ca.crt, to be copied; None if it comes later.

    Raises:
        UserError: the folder is a site's already, or a file is missing.
    """
    if (folder / SETTINGS).exists():
        raise UserError(
            f"{folder} is a site's folder already; edit {folder / SETTINGS}, or choose another folder"
        )
    for path, content in ((authority, "the coordinator's ca.crt"), (data, "the site's images")):
        if path is not None and not path.exists():
            raise UserError(f"{path}: no such file or folder; expected {content}")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "state").mkdir(mode=0o700, exist_ok=True)
        if authority is not None:
            shutil.copyfile(authority, folder / "ca.crt")
    except OSError as error:
        raise UserError(f"{folder}: cannot be written: {error.strerror}; choose another folder") from None
    values = {"name": name, "coordinator": coordinator, "data": str(data.absolute())}
    lines = {key: tomli_w.dumps({key: value}).strip() for key, value in values.items()}
    settings = _TEMPLATE.format(**lines, methods=", ".join(EXCHANGES), mechanisms=", ".join(MECHANISMS))
    write_whole(folder / SETTINGS, settings)
    try:
        site = SiteFolder.open(folder)
    except UserError:
        (folder / SETTINGS).unlink()
        raise
    (write_public if site.key.exists() else make_keys)(site.key, name)
    command = (Path(tool("fedtransfer")), "client", "start", "--dir", site.folder)
    title = f"Site {name} of a federation"
    unit = service_unit(title, command, site.folder, getpass.getuser(), _GPU, pause=60)
    write_whole(folder / UNIT, unit)
    return site


def replace_key(site: SiteFolder) -> str:
    """Make a new key pair and rename the old one; return the public key."""
    for path in (site.key, site.public_key):
        if path.exists():
            path.rename(path.with_name(f"{path.name}.until-{datetime.now(UTC):%Y%m%dT%H%M%S}"))
    (site.state / "node-id").unlink(missing_ok=True)
    return make_keys(site.key, site.settings.name)
