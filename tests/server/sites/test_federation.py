"""Names of sites, and what the sites of a run must have."""

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from flwr.app import Context, Error, Message
from flwr.clientapp import ClientApp
from flwr.common.constant import ErrorCode
from flwr.proto.node_pb2 import NodeInfo

from fedtransfer.common.backbone.backbone import load_backbone
from fedtransfer.common.config.config import BUNDLED, RunConfig
from fedtransfer.common.errors import UserError
from fedtransfer.common.wire.protocol import Description, Preparing
from fedtransfer.common.wire.records import pack
from fedtransfer.server.callbacks import Callback
from fedtransfer.server.sites.federation import Federation, join
from fedtransfer.simulations.engines.inprocess import InProcessGrid, SimulatedSite


def joined(
    *sites: tuple[str, str], images: tuple[int, int, int] = (5, 2, 2), **settings: object
) -> Federation:
    """Join sites given as (enrolled name, prepared site that the node says it works for)."""
    app = ClientApp()

    @app.query()
    def query(message: Message, context: Context) -> Message:
        told = Description({"Ähre 2": images, "a": (0, 1, 1)}, 0, str(context.node_config["partition"]))
        return Message(pack(told), reply_to=message)

    config = RunConfig(**{"sites": len(sites), **settings})
    nodes = [SimulatedSite(name, {"partition": partition}) for name, partition in sites]
    grid = InProcessGrid(app, nodes, config.to_flat(), 1)
    try:
        return join(grid, config, load_backbone(BUNDLED))
    finally:
        grid.close()


def test_an_enrolled_name_counts_whatever_the_site_says() -> None:
    federation = joined(("anna", "carl"), ("bert", "anna"))
    assert federation.nodes == {"anna": 1, "bert": 2}
    assert federation.everyone == federation.trainers == ("anna", "bert")
    assert federation.classes == ("a", "Ähre 2")


def test_the_keys_by_which_sites_are_enrolled(monkeypatch: pytest.MonkeyPatch) -> None:
    key = ec.generate_private_key(ec.SECP384R1()).public_key()
    told = InProcessGrid.get_nodes

    def enrolled(grid: InProcessGrid) -> list[NodeInfo]:
        nodes = list(told(grid))
        nodes[1].public_key = key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
        return nodes

    def unnamed(grid: InProcessGrid) -> list[NodeInfo]:
        nodes = list(told(grid))
        for node in nodes:
            node.public_key = b"Ray's nodes have something that is no key"
        return nodes

    assert joined(("anna", ""), ("bert", "")).keys == {}
    monkeypatch.setattr(InProcessGrid, "get_nodes", unnamed)
    assert joined(("", "site-0"), ("", "site-1")).keys == {}
    monkeypatch.setattr(InProcessGrid, "get_nodes", enrolled)
    assert joined(("anna", ""), ("bert", "")).keys == {
        "bert": key.public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode()
    }


def test_nodes_of_a_simulation_go_by_their_prepared_sites() -> None:
    assert joined(("", "site-1"), ("", "site-0")).nodes == {"site-1": 1, "site-0": 2}


def test_a_node_without_any_name_is_refused() -> None:
    with pytest.raises(UserError, match=r"node 2 .*; enrol it"):
        joined(("anna", ""), ("", ""))


def test_two_nodes_of_one_name_are_refused() -> None:
    for sites in (
        (("anna", ""), ("anna", "")),
        (("", "site-0"), ("", "site-0")),
        (("site-0", ""), ("", "site-0")),
    ):
        with pytest.raises(UserError, match=r"several nodes .* (anna|site-0);"):
            joined(*sites)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"min_sites": 3, "sites": 2}, "2 of 2 .* 3 are needed"),
        ({"cohort_size": 3}, "cohort-size is 3, .* 2 sites"),
        (
            {"min_sites": 2, "fraction": 0.5},
            "min-sites is 2, .* only 1 site; .* fraction",
        ),
        ({"images": (0, 2, 2)}, "no site has a training image"),
    ],
)
def test_what_can_never_work_is_refused_before_the_first_round(settings: dict, words: str) -> None:
    with pytest.raises(UserError, match=words):
        joined(("anna", ""), ("bert", ""), **settings)


class Reports(Callback):
    """Notes what is reported while sites join."""

    def __init__(self, reported: list[tuple[object, ...]]) -> None:
        self.on_preparing = self.on_waiting = lambda *values: reported.append(values)  # type: ignore[method-assign]


def answering(*answers: object, **settings: object) -> tuple[Federation, list[tuple[object, ...]]]:
    """Join one site that gives these answers in turn; return what was reported of it too."""
    app, left, reported = ClientApp(), list(answers), []

    @app.query()
    def query(message: Message, context: Context) -> Message:
        answer = left.pop(0)
        return Message(answer if isinstance(answer, Error) else pack(answer), reply_to=message)

    config = RunConfig(sites=1, **settings)
    grid = InProcessGrid(app, [SimulatedSite("anna", {})], config.to_flat(), 1)
    try:
        return join(grid, config, load_backbone(BUNDLED), [Reports(reported)]), reported
    finally:
        grid.close()


SOUND = Description({"cat": (5, 2, 2), "dog": (5, 2, 2)}, 0)
GONE = Error(ErrorCode.NODE_UNAVAILABLE, "")


def test_a_site_that_prepares_its_features_is_asked_again_and_its_progress_is_told() -> None:
    federation, reported = answering(Preparing(0, 0), Preparing(3, 9), SOUND)
    assert federation.everyone == ("anna",)
    assert reported == [("anna", 0, 0), ("anna", 3, 9)]


def test_a_site_that_is_just_starting_anew_is_waited_for() -> None:
    federation, _ = answering(GONE, GONE, SOUND)
    assert (federation.everyone, federation.absent) == (("anna",), {})


def test_neither_is_waited_for_longer_than_was_said() -> None:
    with pytest.raises(UserError, match=r"0 of 1 sites .*\n  anna: is no longer connected"):
        answering(*[GONE] * 100, join_timeout=0.5)
    with pytest.raises(UserError, match=r"anna: .* 0\.3 s \(--round-timeout\)"):
        answering(*[Preparing(1, 2)] * 10_000, round_timeout=0.3)


def test_declared_classes_are_those_of_the_run_whatever_the_sites_have() -> None:
    federation, _ = answering(SOUND, classes="declared", class_names="dog, cat,owl")
    assert federation.classes == ("dog", "cat", "owl")


def joined_with(images: dict[str, dict[str, tuple[int, int, int]]], **settings: object) -> Federation:
    """Join sites that have these images by class."""
    app = ClientApp()

    @app.query()
    def query(message: Message, context: Context) -> Message:
        return Message(pack(Description(images[str(context.node_config["name"])], 0)), reply_to=message)

    config = RunConfig(**{"sites": len(images), **settings})
    grid = InProcessGrid(app, [SimulatedSite(name, {"name": name}) for name in images], config.to_flat(), 1)
    try:
        return join(grid, config, load_backbone(BUNDLED))
    finally:
        grid.close()


UNLIKE = {
    "anna": {"cat": (5, 2, 2), "dog": (1, 0, 0), "mule 10": (0, 3, 3)},
    "bert": {"dog": (4, 1, 1), "mule 9": (7, 0, 0), "cat": (0, 5, 5)},
    "carl": {"owl": (0, 0, 2), "dog": (2, 2, 2)},
}


def test_the_classes_are_the_union_in_natural_order_and_images_are_summed() -> None:
    federation = joined_with(UNLIKE)
    assert federation.classes == ("cat", "dog", "mule 9", "mule 10", "owl")
    assert federation.training_images.tolist() == [5, 7, 7, 0, 0]
    assert federation.training_images.dtype == "int64"
    backwards = joined_with(dict(reversed(UNLIKE.items())))
    assert (backwards.classes, backwards.held_by_one) == (federation.classes, federation.held_by_one)


def test_a_class_with_training_images_at_one_site_only_is_pointed_out(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Validation and test images teach nobody; a class without training images has no holder."""
    assert joined_with(UNLIKE).held_by_one == {"cat": "anna", "mule 9": "bert"}
    assert (
        "2 of 5 classes have training images at one site only, "
        "which alone decides what the head learns of them: cat (anna), mule 9 (bert)"
    ) in caplog.text
    assert "…" not in caplog.text


def test_many_such_classes_are_cut_short_and_shared_ones_are_not_mentioned(
    caplog: pytest.LogCaptureFixture,
) -> None:
    shared = {"cat": (5, 2, 2), "dog": (1, 0, 0)}
    assert joined_with({"anna": shared, "bert": shared}).held_by_one == {}
    assert joined_with({"anna": shared}).held_by_one == {}, "a site alone shares with nobody"
    assert "one site only" not in caplog.text
    joined_with({"anna": {f"c{i}": (1, 0, 0) for i in range(7)}, "bert": {"c0": (1, 0, 0)}})
    assert "6 of 7 classes" in caplog.text
    assert "c1 (anna), c2 (anna), c3 (anna), c4 (anna), c5 (anna), …" in caplog.text


def test_sites_without_training_images_are_named_and_cut_short_only_if_some_are_left_out(
    caplog: pytest.LogCaptureFixture,
) -> None:
    able, bare = {"a": (5, 2, 2)}, {"a": (0, 2, 2)}
    joined_with({"anna": able} | dict.fromkeys(("bert", "carl", "dora"), bare))
    assert "no training image at 3 sites, scored only: bert, carl, dora\n" in caplog.text
    joined_with({"anna": able} | dict.fromkeys(("bert", "carl", "dora", "emil"), bare))
    assert "no training image at 4 sites, scored only: bert, carl, dora, …\n" in caplog.text


def test_declared_classes_that_one_site_alone_has_are_pointed_out_too(
    caplog: pytest.LogCaptureFixture,
) -> None:
    federation = joined_with(UNLIKE, classes="declared", class_names="dog,owl,cat,mule 9,mule 10")
    assert federation.classes == ("dog", "owl", "cat", "mule 9", "mule 10")
    assert federation.training_images.tolist() == [7, 0, 5, 7, 0]
    assert "2 of 5 classes" in caplog.text


def test_who_is_connected_is_reported_while_sites_are_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fedtransfer.server.sites.federation.REPORT_SECONDS", 0.0)
    config = RunConfig(sites=2, min_sites=2, join_timeout=0.5)
    grid = InProcessGrid(ClientApp(), [SimulatedSite("anna", {})], config.to_flat(), 1)
    reported: list[tuple[object, ...]] = []
    try:
        with pytest.raises(UserError, match="join-timeout"):
            join(grid, config, load_backbone(BUNDLED), [Reports(reported)])
    finally:
        grid.close()
    assert {tuple(connected) for connected, _, _ in reported} == {("anna",)}
    assert all(0 <= seconds <= 0.6 for *_, seconds in reported)
