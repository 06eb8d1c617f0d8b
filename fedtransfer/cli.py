"""The command line: one program with the commands of server, client and simulations."""

import logging
import signal
import sys
from importlib.metadata import version
from typing import Annotated

import typer

from fedtransfer.client.cli import client
from fedtransfer.client.features_cli import features
from fedtransfer.common.errors import UserError
from fedtransfer.common.support.files import private_files
from fedtransfer.common.support.processes import spare_proxies_this_machine
from fedtransfer.server.cli import server
from fedtransfer.simulations.audit.cli import audit
from fedtransfer.simulations.benchmark.cli import benchmark
from fedtransfer.simulations.cli import evaluate, predict, pretrain, simulate
from fedtransfer.simulations.methods import methods
from fedtransfer.simulations.privacy.cli import privacy
from fedtransfer.simulations.runs import report, runs

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Federated transfer learning: sites with the same frozen, pretrained ResNetV2 fine-tune a small "
    "head together.",
    epilog="Start with: fedtransfer simulate",
)


def _keep_private(context: typer.Context) -> None:
    context.with_resource(private_files())  # keys, logs, heads and results


for command in (simulate, predict, evaluate, pretrain, methods, privacy, audit, report, runs):
    app.command()(command)
app.command(no_args_is_help=True)(benchmark)
app.add_typer(server, name="server", callback=_keep_private)
app.add_typer(client, name="client", callback=_keep_private)
app.add_typer(features, name="features")


def _print_version(flag: bool) -> None:
    if flag:
        print(f"fedtransfer {version('fedtransfer')}")
        raise typer.Exit


@app.callback()
def _options(
    _: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s: %(message)s", stream=sys.stderr)


def main() -> None:
    """Run the command line; errors that a user can fix are printed without a traceback.

    SIGTERM, which schedulers and service managers use to end a process, acts like Ctrl-C.
    """
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        spare_proxies_this_machine()
        app()
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print("\nstopped", file=sys.stderr)
        sys.exit(130)
