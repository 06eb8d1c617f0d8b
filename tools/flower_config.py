"""Generate ``[tool.flwr.app.config]``: a Flower run can override only keys listed there."""

import re
from pathlib import Path

from fedtransfer.common.config.config import RunConfig

HEADING = "[tool.flwr.app.config]\n"


def with_flower_config(document: str) -> str:
    """Return a pyproject.toml with every setting and its default in Flower's section."""
    settings = RunConfig().to_toml()
    return re.sub(
        rf"({re.escape(HEADING)}).*?(?=\n\[|\Z)", lambda match: match[1] + settings, document, flags=re.DOTALL
    )


if __name__ == "__main__":
    path = Path("pyproject.toml")
    path.write_text(with_flower_config(path.read_text("utf-8")), "utf-8")
