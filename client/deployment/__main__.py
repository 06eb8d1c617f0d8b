"""The warm worker as a process: ``python -m fedtransfer.client.deployment SITE``."""

import logging
import sys
from pathlib import Path

from fedtransfer.client.deployment.worker import serve

logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s: %(message)s", stream=sys.stderr)
logging.getLogger("httpx").setLevel(logging.WARNING)  # it logs each piece of each message
serve(Path(sys.argv[1]))
