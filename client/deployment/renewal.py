"""The renewal of the site's key: ``client new-key --renew`` makes the next one.

Each answer carries the renewal until the coordinator has taken it up. Then the site signs on with
the next key.
"""

import logging
from datetime import UTC, datetime

import httpx

from fedtransfer.client.deployment.fleet import connect
from fedtransfer.client.deployment.keys import load_keys, make_keys
from fedtransfer.client.deployment.settings import SiteFolder
from fedtransfer.common.errors import UserError
from fedtransfer.common.support.files import write_whole
from fedtransfer.common.wire.renewal import renewal

log = logging.getLogger(__name__)


def begin_renewal(site: SiteFolder) -> str:
    """Make the site's next key pair; return its public key in OpenSSH's one-line form.

    Raises:
        UserError: the enrolled key is missing, or a renewal has begun already.
    """
    load_keys(site.key)
    if site.next_key.exists():
        try:
            load_keys(site.next_key)
        except UserError:  # half a key, after a power cut: no answer has carried it
            site.next_key.unlink()
        else:
            begun = "a renewal has begun already; it ends after the run in progress, or the next"
            raise UserError(f"{site.next_key}: {begun}")
    return make_keys(site.next_key, site.settings.name)


def pending_renewal(site: SiteFolder) -> str:
    """Return the renewal for the coordinator; "" if none has begun."""
    if not site.next_key.exists():
        return ""
    try:
        return renewal(load_keys(site.key)[0], load_keys(site.next_key)[1])
    except UserError as error:  # such as half a key, after a power cut: the answer leaves without it
        log.error("the key is not renewed: %s", error)
        return ""


def end_renewal(site: SiteFolder) -> bool:
    """Make the next key the site's key if the coordinator has enrolled it; say whether it has."""
    if not site.next_key.exists():
        return False
    try:
        with connect(site, site.next_key) as fleet:
            if not fleet.is_enrolled():
                return False
    except (httpx.HTTPError, UserError):  # the next look may find the coordinator, or a mended file
        return False
    suffix = f"until-{datetime.now(UTC):%Y%m%dT%H%M%S}"
    for path, following in ((site.key, site.next_key), (site.public_key, site.next_public_key)):
        if path.exists():
            former = path.with_name(f"{path.name}.{suffix}")
            write_whole(former, path.read_bytes(), mode=path.stat().st_mode & 0o777)
        following.replace(path)  # there is a key at every moment, after a power cut too
    return True
