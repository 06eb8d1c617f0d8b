"""The ServerApp: loads the backbone, runs the rounds, writes the run folder."""

import time
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import cast

from flwr.app import Context
from flwr.serverapp import Grid, ServerApp

from fedtransfer.common.backbone.backbone import Backbone, configured_backbone
from fedtransfer.common.config.config import RunConfig, make_config
from fedtransfer.common.errors import UserError
from fedtransfer.common.features.feature_map import feature_map
from fedtransfer.common.head.head import Arrays, head_spec, save_head
from fedtransfer.common.head.model import export_models, refuse_without_converter
from fedtransfer.server.callbacks import Callback, load_callbacks
from fedtransfer.server.callbacks.json_log import JsonLog
from fedtransfer.server.callbacks.tables import Tables, read_history, read_left_out
from fedtransfer.server.callbacks.tensorboard import TensorBoard
from fedtransfer.server.deployment.receipts import receipts_of
from fedtransfer.server.rounds.loop import federate
from fedtransfer.server.run_folder.folder import open_folder, read_summary, write_summary
from fedtransfer.server.run_folder.plots import plot_curves
from fedtransfer.server.run_folder.summary import Outcome, summarise
from fedtransfer.server.strategies.strategy import Strategy


def make_app(callbacks: Iterable[Callback] = (), strategy: Strategy | None = None) -> ServerApp:
    """Make the ServerApp.

    Args:
        callbacks: are called after those that the run config names.
        strategy: a strategy as an object; by default the one that the run config names.
    """
    app = ServerApp()

    @app.main()
    def main(grid: Grid, context: Context) -> None:
        config = make_config(context.run_config, "run config")
        if not config.out:
            raise UserError("run config: out is empty; set it to the run folder, as an absolute path")
        log = [JsonLog(config.log_json)] if config.log_json else []
        observers = [Tables(), TensorBoard(), *log, *load_callbacks(config.callbacks), *callbacks]
        try:
            with open_folder(Path(config.out), config):
                bounded = _bounded(grid)
                bounded.receipts = receipts_of(config)  # type: ignore[attr-defined]
                _run(bounded, config, observers, strategy)
        except BaseException as error:
            for callback in observers:
                callback.on_error(error)
            raise
        finally:
            for callback in observers:
                callback.close()

    return app


def _bounded(grid: Grid) -> Grid:
    """Return the grid to use: in a deployment one that waits for no site too long."""
    if type(grid).__name__ != "HttpGrid":  # to import the class takes half a second
        return grid
    from fedtransfer.server.sites.network import NetworkGrid

    return cast(Grid, NetworkGrid(grid))


def _run(grid: Grid, config: RunConfig, callbacks: Sequence[Callback], strategy: Strategy | None) -> None:
    if config.models:
        refuse_without_converter(config)
    folder, backbone, began = Path(config.out), configured_backbone(config), time.monotonic()
    outcome = federate(grid, config, backbone, folder, callbacks, strategy=strategy)
    seconds = time.monotonic() - began
    _save_models(folder, config, backbone, outcome)
    history = read_history(folder)
    plot_curves(history, outcome.best.round, folder / "curves.png")
    write_summary(folder, summarise(config, backbone, history, read_left_out(folder), outcome, seconds))
    summary = read_summary(folder)
    for callback in callbacks:
        callback.on_end(summary)


def _save_models(folder: Path, config: RunConfig, backbone: Backbone, outcome: Outcome) -> None:
    """Write the best head and the last head, and both as models if the config says so."""
    best, last, classes = outcome.best, outcome.progress, outcome.classes
    mapped = feature_map(config, backbone, outcome.moments)
    models: dict[str, dict[Path, Arrays]] = defaultdict(dict)  # by the layer at which their arrays begin
    for prefix, head, layer in (("", best.head, best.trainable), ("last-", last.state.head, last.trainable)):
        save_head(folder / f"{prefix}head.npz", head, classes, backbone.fingerprint, outcome.moments, layer)
        models[layer][path := folder / f"{prefix}{config.model_file}"] = head
        path.unlink(missing_ok=True)  # a resumed run may have left the model of an earlier head
    for layer, heads in models.items() if config.models else ():
        spec = head_spec(config, backbone, len(classes), layer)
        export_models(heads, backbone, mapped, spec, classes, layer)


app = make_app()
