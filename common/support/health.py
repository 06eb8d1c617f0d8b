"""Ask a Flower process whether it serves, by the standard gRPC health protocol."""

import grpc
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse
from grpc_health.v1.health_pb2_grpc import HealthStub


def is_serving(address: str, seconds: float = 2.0) -> bool:
    """Return whether the health service at ``address`` (host:port) says SERVING within ``seconds``."""
    with grpc.insecure_channel(address) as channel:
        try:
            answer = HealthStub(channel).Check(HealthCheckRequest(), timeout=seconds)
        except grpc.RpcError:
            return False
    return bool(answer.status == HealthCheckResponse.SERVING)
