"""``--callbacks mlflow``: parameters, scores by round and the model, in MLflow.

MLFLOW_TRACKING_URI and MLFLOW_EXPERIMENT_NAME say where; without these it is the folder ``mlruns``
in the run folder. Needs ``pip install mlflow-skinny``.
"""

import os
from collections.abc import Mapping
from typing import Any

from fedtransfer.common.errors import UserError
from fedtransfer.server.callbacks import Callback, Round, Start


class MLflow(Callback):
    """Logs a run to MLflow; a resumed one is another run there, with the same name."""

    def on_start(self, start: Start) -> None:
        """Begin an MLflow run with the settings as its parameters."""
        try:
            from mlflow import MlflowClient
        except ImportError:
            raise UserError(
                "--callbacks mlflow: MLflow is not installed; pip install mlflow-skinny"
            ) from None
        uri = os.environ.get("MLFLOW_TRACKING_URI", "")
        if not uri:
            os.environ.setdefault("MLFLOW_ALLOW_FILE_STORE", "true")  # MLflow prefers databases
            uri = (start.folder / "mlruns").as_uri()
        name = os.environ.get("MLFLOW_EXPERIMENT_NAME") or "fedtransfer"
        self._client, self._folder = MlflowClient(tracking_uri=uri), start.folder
        experiment = self._client.get_experiment_by_name(name)
        identity = experiment.experiment_id if experiment else self._client.create_experiment(name)
        self._run = self._client.create_run(identity, run_name=start.folder.name).info.run_id
        for key, value in start.config.to_flat().items():
            self._client.log_param(self._run, key, value)

    def on_round(self, record: Round) -> None:
        """Log the scores of a round that did not fail."""
        if not record.failure:
            for name, value in record.scalars.items():
                self._client.log_metric(self._run, name, value, step=record.round)

    def on_end(self, summary: Mapping[str, Any]) -> None:
        """Log the result, and end the MLflow run."""
        if summary["accuracy"] is not None:
            self._client.log_metric(self._run, "final/accuracy", summary["accuracy"])
        for file in ("summary.json", "head.npz", "model.keras", "model.onnx"):
            if (path := self._folder / file).exists():  # a run need not write its model
                self._client.log_artifact(self._run, str(path))
        self._client.set_terminated(self._run)

    def on_error(self, error: BaseException) -> None:
        """Mark the MLflow run as failed."""
        if hasattr(self, "_run"):
            self._client.set_terminated(self._run, "FAILED")
