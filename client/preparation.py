"""Preparation of a site in the background, so that a query can be answered with its progress."""

from collections.abc import Callable
from threading import Thread

from fedtransfer.client.data import SiteData
from fedtransfer.common.features.extraction import Progress


class Preparation:
    """The preparation of one site.

    Attributes:
        done, total: number of images that went through the backbone so far, and that must in all.
    """

    def __init__(self, prepare: Callable[[Progress], SiteData]) -> None:
        self.done, self.total = 0, 0
        self._data: SiteData | None = None
        self._error: Exception | None = None
        self._thread = Thread(target=self._run, args=(prepare,), name="preparation", daemon=True)
        self._thread.start()

    def data(self, patience: float | None = None) -> SiteData | None:
        """Return the site's data once it is ready, or None after ``patience`` seconds (None: wait).

        Raises:
            UserError: the site cannot be prepared.
        """
        self._thread.join(patience)
        if self._thread.is_alive():
            return None
        if self._error:
            raise self._error
        return self._data

    def _run(self, prepare: Callable[[Progress], SiteData]) -> None:
        try:
            self._data = prepare(self._report)
        except Exception as error:
            self._error = error

    def _report(self, done: int, total: int) -> None:
        self.done, self.total = done, total
