"""Numbers of Hypothesis' dear examples: few in ``make test``, all in ``make test-all``."""

import os

from hypothesis import settings

ALL = os.environ.get("FEDTRANSFER_EXAMPLES") == "all"  # set by the Makefile


def examples(few: int, most: int) -> settings:
    """Return settings of ``few`` examples, or of ``most`` where all tests are run."""
    return settings(max_examples=most if ALL else few, deadline=None)
