"""The catalogue of methods by name, such as ``ft.methods.fed3r``."""

from collections.abc import Iterator, Mapping

from fedtransfer.common.methods import METHODS
from fedtransfer.common.methods.method import Method
from fedtransfer.common.support.text import nearest


class Catalogue(Mapping[str, Method]):
    """Name → record: paper, what sites send, what it leaks. ``simulate`` takes name or record.

    >>> "fedprox" in methods
    True
    >>> methods.trimmed_mean.paper
    'arXiv 1803.01498'
    """

    def __getitem__(self, name: str) -> Method:
        return METHODS[name]

    def __iter__(self) -> Iterator[str]:
        return iter(METHODS)

    def __len__(self) -> int:
        return len(METHODS)

    def __getattr__(self, name: str) -> Method:
        written = name.replace("_", "-")
        if name.startswith("_") or written not in METHODS:
            raise AttributeError(f"no method {written!r}; {nearest(written, list(METHODS))}")
        return METHODS[written]

    def __dir__(self) -> list[str]:
        return sorted(name.replace("-", "_") for name in METHODS)


methods = Catalogue()
