"""The warm worker as a process: ``python -m client.deployment SITE``."""

import logging
import sys
from pathlib import Path

from client.deployment.worker import serve

logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s: %(message)s", stream=sys.stderr)
serve(Path(sys.argv[1]))
