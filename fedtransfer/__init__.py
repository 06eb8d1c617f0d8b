"""Federated transfer learning: sites with the same frozen network fine-tune a small head.

This is the Python interface; ``docs/python.md`` shows it by example. The import loads nothing
heavy: each name loads on first use.

>>> import fedtransfer as ft
>>> ft.methods.fed3r.name
'fed3r'
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fedtransfer.api import Audit, Benchmark, audit, benchmark, simulate
    from fedtransfer.catalogue import methods
    from fedtransfer.common.config.config import RunConfig
    from fedtransfer.common.errors import UserError
    from fedtransfer.common.methods.method import Method
    from fedtransfer.run import Run, load_run, runs
    from fedtransfer.server.strategies.strategy import Strategy
    from fedtransfer.table import Table

__all__ = [
    "Audit", "Benchmark", "Method", "Run", "RunConfig", "Strategy", "Table", "UserError", "audit",
    "benchmark", "load_run", "methods", "runs", "simulate",
]  # fmt: skip

_HOMES = {
    "fedtransfer.api": ("Audit", "Benchmark", "audit", "benchmark", "simulate"),
    "fedtransfer.catalogue": ("methods",),
    "fedtransfer.common.config.config": ("RunConfig",),
    "fedtransfer.common.errors": ("UserError",),
    "fedtransfer.common.methods.method": ("Method",),
    "fedtransfer.run": ("Run", "load_run", "runs"),
    "fedtransfer.server.strategies.strategy": ("Strategy",),
    "fedtransfer.table": ("Table",),
}


def __getattr__(name: str) -> Any:
    for module, names in _HOMES.items():
        if name in names:
            return getattr(import_module(module), name)
    raise AttributeError(f"module 'fedtransfer' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
