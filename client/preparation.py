"""Make a site ready in the background, so that the coordinator can be told how far it is."""

from collections.abc import Callable
from threading import Thread

from fedtransfer.client.data import Site
from fedtransfer.common.features.extraction import Progress


class Preparation:
    """One site being prepared.

    Attributes:
        done, total: images that went through the backbone so far, and those that must.
    """

    def __init__(self, prepare: Callable[[Progress], Site]) -> None:
        self.done, self.total = 0, 0
        self._site: Site | None = None
        self._error: Exception | None = None
        self._thread = Thread(target=self._run, args=(prepare,), name="preparation", daemon=True)
        self._thread.start()

    def site(self, patience: float | None = None) -> Site | None:
        """Return the site once it is ready, or None where that takes longer than ``patience`` seconds (None: wait).

        Raises:
            UserError: it cannot be prepared.
        """
        self._thread.join(patience)
        if self._thread.is_alive():
            return None
        if self._error:
            raise self._error
        return self._site

    def _run(self, prepare: Callable[[Progress], Site]) -> None:
        try:
            self._site = prepare(self._report)
        except Exception as error:
            self._error = error

    def _report(self, done: int, total: int) -> None:
        self.done, self.total = done, total
