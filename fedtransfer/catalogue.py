"""The catalogue of methods by name, such as ``ft.methods.fed3r``."""

from fedtransfer.common.methods import METHODS
from fedtransfer.common.methods.method import Method
from fedtransfer.common.support.text import nearest


class Catalogue(dict[str, Method]):
    """Name → record: paper, what sites send, what it leaks. ``simulate`` takes name or record.

    >>> "fedprox" in methods
    True
    >>> methods.trimmed_mean.paper
    'arXiv 1803.01498'
    """

    def __getattr__(self, name: str) -> Method:
        written = name.replace("_", "-")
        if name.startswith("_") or written not in METHODS:
            raise AttributeError(f"no method {written!r}; {nearest(written, list(METHODS))}")
        return METHODS[written]

    def __dir__(self) -> list[str]:
        return sorted(name.replace("-", "_") for name in METHODS)


methods = Catalogue(METHODS)
