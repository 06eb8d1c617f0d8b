"""The ``ray`` engine: Flower's own simulation, with the same apps, on local cores or a Ray cluster.

It starts more slowly than the in-process engine (each of Ray's workers is a process), and
spreads sites over processes and machines. It makes up for gaps in Flower 1.41: a worker that dies
is started again and gets its message once more, a worker that hangs ends with the run, and the run
config reaches both apps.
"""

import gc
import logging
import os
import signal
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from flwr.app import Context, Message
from flwr.serverapp import Grid

from fedtransfer.common.config.config import RunConfig, Value
from fedtransfer.common.errors import UserError
from fedtransfer.common.support.processes import CORES

App = Callable[[Message, Context], Message]
Server = Callable[[Grid, Context], None]
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
# Ray starts its workers at niceness 15: next to any busy process they would get almost no time.
os.environ.setdefault("RAY_worker_niceness", "0")
os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")


@dataclass(frozen=True)
class _Configured:
    """A ClientApp with a run config, for which Flower's Python call has no argument."""

    app: App
    run_config: Mapping[str, Value]

    def __call__(self, message: Message, context: Context) -> Message:
        about = context.run_id, context.node_id, context.node_config, context.state
        reply = self.app(message, Context(*about, dict(self.run_config)))
        if not isinstance(reply, Message):  # Flower would send nothing, and the server would wait
            raise TypeError(f"the ClientApp returned {type(reply).__name__}, expected a Message")
        return reply


def run_on_ray(server_app: Server, client_app: App, sites: int, config: RunConfig) -> None:
    """Run a federation to its end on Ray; exceptions of the server's app are raised here.

    Both apps get the run config. ``sites`` is the number of sites in ``config.prepared``.

    Raises:
        UserError: Ray is not installed, cannot be reached, or has too little for even one site.
    """
    try:
        import ray
        from flwr.simulation import run_simulation
        from flwr.supercore.logger import FLOWER_LOGGER
    except ImportError as error:
        remedy = "install it: pip install 'fedtransfer[ray]'"
        raise UserError(f"--engine ray needs Flower's simulation extra ({error}); {remedy}") from None

    def server(grid: Grid, context: Context) -> None:
        context.run_config = dict(config.to_flat())
        try:
            server_app(grid, context)
        finally:
            _end_busy_workers(ray)

    resources = {"num_cpus": config.client_cpus, "num_gpus": config.client_gpus}
    terminate, level = signal.getsignal(signal.SIGTERM), FLOWER_LOGGER.level
    FLOWER_LOGGER.setLevel(logging.CRITICAL)  # its errors reach us as replies, and admission reports them
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Ray and Flower show what Python hides by default
            _start_ray(ray, config)
            run_simulation(
                server,  # type: ignore[arg-type]  # Flower calls it as it does a ServerApp
                _Configured(client_app, config.to_flat()),  # type: ignore[arg-type]
                num_supernodes=sites,
                # Without these a dead worker would fail every later message.
                backend_config={"client_resources": {**resources, "max_restarts": -1, "max_task_retries": 1}},
            )
    finally:
        FLOWER_LOGGER.setLevel(level)
        ray.shutdown()
        signal.signal(signal.SIGTERM, terminate)


def _start_ray(ray: Any, config: RunConfig) -> None:
    local = {} if config.ray_address else {"num_cpus": CORES, "include_dashboard": False}
    environment = {"FLWR_TELEMETRY_ENABLED": "0", "TF_CPP_MIN_LOG_LEVEL": "3"}
    try:
        ray.init(
            address=config.ray_address or None, log_to_driver=False, logging_level=logging.ERROR,
            runtime_env={"env_vars": environment}, **local,
        )  # fmt: skip
    except Exception as error:
        remedy = "see --ray-address, or use --engine inprocess"
        raise UserError(f"Ray cannot be started or reached ({error}); {remedy}") from None
    have = {"CPU": 0, "GPU": 0} | ray.cluster_resources()
    wanted = {"CPU": config.client_cpus, "GPU": config.client_gpus}
    missing = [f"{n:g} {kind} (there are {have[kind]:g})" for kind, n in wanted.items() if n > have[kind]]
    if missing:
        wants = f"it wants {', '.join(missing)}"
        raise UserError(f"Ray has too little for one site: {wants}; lower --client-cpus or --client-gpus")


def _end_busy_workers(ray: Any) -> None:
    """End the workers of sites that hang: Flower would wait for them for ever."""
    from flwr.simulation.ray_transport.ray_actor import BasicActorPool

    for pool in [thing for thing in gc.get_objects() if isinstance(thing, BasicActorPool)]:
        for worker in list(pool._future_to_actor.values()):
            ray.kill(worker)
