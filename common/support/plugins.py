"""Objects that the user has written, named as ``module:NAME``."""

from importlib import import_module
from typing import TypeVar

from fedtransfer.common.errors import UserError

T = TypeVar("T")


def load(name: str, kind: type[T], option: str, expected: str) -> T:
    """Import an object of a kind, or a callable without arguments that makes it: ``module:NAME``.

    Raises:
        UserError: it cannot be imported or called, or is of another kind; the text has ``option``,
            which names it, and ``expected``, the permitted values.
    """
    module, _, attribute = name.partition(":")
    try:
        value = getattr(import_module(module), attribute)
        result = value if isinstance(value, kind) else value()
    except (ImportError, AttributeError, TypeError, ValueError) as error:
        raise UserError(f"{option} {name}: cannot be made ({error}); expected {expected}") from None
    if not isinstance(result, kind):
        raise UserError(f"{option} {name}: {attribute} is not a {kind.__module__}.{kind.__qualname__}")
    return result
