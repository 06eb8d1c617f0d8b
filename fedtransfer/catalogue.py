"""The strategies there are, by name: ``ft.methods.fed3r``."""

from collections.abc import Iterator, Mapping

from fedtransfer.common.errors import UserError
from fedtransfer.common.support.text import nearest
from fedtransfer.simulations.methods import METHODS, Method


class Catalogue(Mapping[str, Method]):
    """Name → record: paper, what sites send, what that leaks. A record goes where a name does.

    >>> "fedprox" in methods
    True
    >>> methods.trimmed_mean.paper
    'arXiv 1803.01498'
    """

    _records: Mapping[str, Method] = {method.strategy: method for method in METHODS if method.strategy}

    def __getitem__(self, name: str) -> Method:
        return self._records[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._records)

    def __len__(self) -> int:
        return len(self._records)

    def __getattr__(self, name: str) -> Method:
        written = name.replace("_", "-")
        if name.startswith("_") or written not in self._records:
            raise AttributeError(f"no method {written!r}; {nearest(written, [*self._records])}")
        return self._records[written]

    def __dir__(self) -> list[str]:
        return sorted(name.replace("-", "_") for name in self._records)


methods = Catalogue()


def strategy_name(strategy: object) -> str:
    """Return the setting ``strategy`` for a name, a method record, or anything with a ``name``.

    This is the one place where ``strategy=`` becomes a setting. A strategy object of the caller's
    own, which no name stands for, is to be taken up here and handed on to
    ``fedtransfer.simulations.federation.simulate``.

    Raises:
        UserError: it is none of these.
    """
    name = strategy if isinstance(strategy, str) else getattr(strategy, "name", None)
    if not isinstance(name, str):
        raise UserError(
            f"strategy: got {type(strategy).__name__}; expected a name, or a method such as ft.methods.fed3r"
        )
    return name
