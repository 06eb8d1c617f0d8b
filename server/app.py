"""The ServerApp: load the backbone, run the rounds, write the run folder."""

import time
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from flwr.app import Context
from flwr.serverapp import Grid, ServerApp

from common.backbone import configured_backbone
from common.config import make_config
from common.errors import UserError
from common.head import HeadSpec, save_head
from common.model import export_model
from server.plots import plot_curves
from server.rounds import Observer, Round, federate
from server.run import RunFolder, write_summary
from server.summary import summarise


def make_app(observers: Iterable[Observer] = ()) -> ServerApp:
    """Make the ServerApp; ``observers`` are told of each round, after the run folder."""
    app = ServerApp()

    @app.main()
    def main(grid: Grid, context: Context) -> None:
        config = make_config(context.run_config, "run config")
        if not config.out:
            raise UserError("run config: out is empty; set it to the run folder, as an absolute path")
        backbone = configured_backbone(config)
        rounds: list[Round] = []  # without the replies: memory must not grow with sites times rounds
        began = time.monotonic()
        with RunFolder(Path(config.out), config) as run:
            outcome = federate(
                grid, config, backbone, [run, lambda record: rounds.append(replace(record, scores={})), *observers]
            )
            seconds = time.monotonic() - began
            spec = HeadSpec.from_config(config, backbone.features, len(outcome.classes))
            save_head(run.path / "head.npz", outcome.head, outcome.classes, backbone.fingerprint)
            model = run.path / "model.keras"
            export_model(model, backbone, spec, outcome.head, outcome.classes, normalised=config.normalise)
            plot_curves(rounds, outcome.best_round, run.path / "curves.png")
            write_summary(run.path, summarise(config, backbone, rounds, outcome, seconds))

    return app


app = make_app()
