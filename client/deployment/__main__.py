"""The warm worker as a process: ``python -m client.deployment SITE``."""

import logging
import sys
from pathlib import Path

from client.deployment.worker import serve
from common.bundle import refuse_hidden_packages

logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s: %(message)s", stream=sys.stderr)
logging.getLogger("httpx").setLevel(logging.WARNING)  # it tells each piece of each message
refuse_hidden_packages()
serve(Path(sys.argv[1]))
