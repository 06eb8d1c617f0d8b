"""What all sites of a session must have in common."""

import pytest

from fedtransfer.common.config.config import RunConfig
from fedtransfer.common.masks.messages import common_settings

OWN = {
    "data", "strict", "backbone", "weights", "feature-statistics", "store", "threads", "engine",
    "ray-address", "client-cpus", "client-gpus", "baselines", "models", "out", "prepared", "resume",
    "log-json", "callbacks", "public-data", "join-timeout", "round-timeout", "round-retries",
}  # fmt: skip


@pytest.mark.parametrize("key", RunConfig().to_flat())
def test_all_settings_are_common_but_paths_and_what_concerns_one_machine(key: str) -> None:
    config, name = RunConfig(), key.replace("-", "_")
    value = getattr(config, name)
    other = not value if isinstance(value, bool) else f"{value}x" if isinstance(value, str) else value + 1
    changed = config.model_copy(update={name: other})
    assert (common_settings(changed) == common_settings(config)) == (key in OWN)
