"""How a site connects to its coordinator: whom it trusts, and the certificate that it shows.

nginx in front of the coordinator refuses a connection without such a certificate, before it reads
any message.
"""

import ssl
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from flwr.supernode.fleet_http_client import FleetHttpClient

from fedtransfer.client.deployment.keys import load_keys
from fedtransfer.common.errors import UserError
from fedtransfer.common.support.site_certificates import session_identity


def site_context(authority: Path, key: Path) -> ssl.SSLContext:
    """Return the TLS settings of a site, from its coordinator's ``ca.crt`` and its private key.

    Raises:
        UserError: one of the files is missing or damaged, or others may read the key.
    """
    try:
        context = ssl.create_default_context(cafile=str(authority))
    except ssl.SSLError:
        problem = "expected a certificate in PEM form"
        raise UserError(f"{authority}: {problem}; ask the coordinator's people for ca.crt") from None
    except OSError as error:
        raise UserError(f"{authority}: {error.strerror}; ask the coordinator's people for ca.crt") from None
    identity = session_identity(load_keys(key)[0])
    with TemporaryDirectory() as folder:  # mode 0700; OpenSSL reads an identity from a file only
        file = Path(folder) / "identity.pem"
        file.write_bytes(identity)
        context.load_cert_chain(file)
    return context


def fleet_client(context: ssl.SSLContext) -> type[FleetHttpClient]:
    """Return Flower's client of the coordinator, for connections with these TLS settings."""

    class SiteClient(FleetHttpClient):
        def __init__(self, base_url: str, **options: Any) -> None:
            super().__init__(base_url, **options | {"verify": context})

    return SiteClient
