"""The front door: one command line, made of the three wings' commands."""

import logging
import signal
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Annotated

import typer

import common
from client.cli import client
from client.features_cli import features
from common.errors import UserError
from common.processes import spare_proxies_this_machine
from server.cli import server
from simulations.audit.cli import audit
from simulations.benchmark.cli import benchmark
from simulations.cli import evaluate, predict, pretrain, simulate
from simulations.methods_cli import methods
from simulations.privacy_cli import privacy
from simulations.report_cli import report

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Federated transfer learning: sites that share a frozen, pretrained ResNetV2 fine-tune a small head together.",
    epilog="Start with: fedtransfer simulate",
)
app.command()(simulate)
app.command()(predict)
app.command()(evaluate)
app.command()(pretrain)
app.command()(methods)
app.command()(privacy)
app.command()(audit)
app.command()(report)
app.add_typer(server, name="server")
app.add_typer(client, name="client")
app.add_typer(features, name="features")
app.add_typer(benchmark, name="benchmark")


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"fedtransfer {version('fedtransfer')}")
        raise typer.Exit


@app.callback()
def _options(
    _: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s: %(message)s", stream=sys.stderr)


def _check_packages() -> None:
    """Refuse to run when another installed package hides ours: the names ``common``, ``client``, … are short."""
    ours = Path(__file__).resolve().parent / "common" / "__init__.py"
    if common.__file__ is None or Path(common.__file__).resolve() != ours:
        raise UserError(
            f"another package named 'common' ({common.__file__}) hides fedtransfer's own ({ours}); "
            "install fedtransfer in a virtual environment of its own"
        )


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt


def main() -> None:
    """Run the command line; errors that a user can mend are printed without a traceback.

    SIGTERM, by which schedulers and service managers end a process, does what Ctrl-C does.
    """
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        _check_packages()
        spare_proxies_this_machine()
        app()
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print("\nstopped", file=sys.stderr)
        sys.exit(130)


if __name__ == "__main__":
    main()
