"""From what a coordinator's people type to a run that the supervisor takes up."""

import json
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from fedtransfer.common.config.config import RunConfig
from fedtransfer.common.errors import UserError
from fedtransfer.server.deployment.coordinator import Coordinator, Settings
from fedtransfer.server.deployment.current import edit_current, end_run, read_current, request_run, resume_run
from fedtransfer.server.deployment.enrolment import enrol
from fedtransfer.server.run_folder.folder import write_settings


@pytest.fixture
def coordinator(tmp_path: Path) -> Coordinator:
    made = Coordinator.create(tmp_path / "coordinator", Settings.model_validate({"hosts": ["localhost"]}))
    for name in ("a", "b"):
        key = ec.generate_private_key(ec.SECP384R1()).public_key()
        line = key.public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH).decode()
        (tmp_path / f"{name}.pub").write_text(f"{line} {name}\n")
        enrol(made, tmp_path / f"{name}.pub")
    return made


def end(coordinator: Coordinator, status: str) -> None:
    with edit_current(coordinator) as current:
        assert current
        current.status = status


def test_a_run_is_of_the_enrolled_sites_and_writes_into_its_own_folder(coordinator: Coordinator) -> None:
    current = request_run(coordinator, None, {"rounds": 7}, "one")
    config = current.config
    assert (config.rounds, config.sites) == (7, 2)
    assert Path(config.out) == coordinator.folder / "runs" / "one"
    assert Path(config.log_json).parent == Path(config.out)
    again = read_current(coordinator)
    assert again
    assert (again.name, again.status) == ("one", "wanted")


def test_settings_come_from_the_folder_a_file_and_options(coordinator: Coordinator, tmp_path: Path) -> None:
    (coordinator.folder / "federation.toml").write_text("rounds = 3\nseed = 5\n")
    assert request_run(coordinator, None, {"seed": 6}, "one").config.rounds == 3
    assert read_current(coordinator).config.seed == 6  # type: ignore[union-attr]
    end(coordinator, "finished")
    (tmp_path / "other.toml").write_text("rounds = 4\n")
    config = request_run(coordinator, tmp_path / "other.toml", {}, "two").config
    assert (config.rounds, config.seed) == (4, RunConfig().seed)


@pytest.mark.parametrize(
    ("settings", "name", "words"),
    [
        ({"data": "images"}, "", "data: .*Leave it out"),
        ({"engine": "ray", "out": "x"}, "", "engine, out: .*Leave them out"),
        ({"rounds": 0}, "", "rounds: got 0"),
        ({}, "../x", r"--name '\.\./x': expected letters"),
    ],
)
def test_what_a_deployment_has_no_use_for_is_refused(
    coordinator: Coordinator, settings: dict[str, object], name: str, words: str
) -> None:
    with pytest.raises(UserError, match=words):
        request_run(coordinator, None, settings, name)
    assert read_current(coordinator) is None


def test_one_run_at_a_time_and_no_folder_twice(coordinator: Coordinator) -> None:
    request_run(coordinator, None, {}, "one")
    with pytest.raises(UserError, match=r"run one .* server stop --run"):
        request_run(coordinator, None, {}, "two")
    end(coordinator, "finished")
    with pytest.raises(UserError, match=r"runs/one exists .*--name"):
        request_run(coordinator, None, {}, "one")


def test_a_run_that_never_began_is_ended_at_once_and_one_that_did_by_the_supervisor(
    coordinator: Coordinator,
) -> None:
    """A coordinator that is down would never get to it, and no other run could be asked for."""
    request_run(coordinator, None, {}, "one")
    assert end_run(coordinator) == "run one is withdrawn; it had not begun"
    with pytest.raises(UserError, match="no run is going on"):
        end_run(coordinator)
    request_run(coordinator, None, {}, "two")
    with edit_current(coordinator) as current:
        assert current
        current.submissions.append(1)
    assert end_run(coordinator).startswith("run two will be stopped; go on with it")
    assert read_current(coordinator).status == "stopping"  # type: ignore[union-attr]


def test_a_run_without_sites_is_refused(tmp_path: Path) -> None:
    empty = Coordinator.create(tmp_path / "empty", Settings.model_validate({"hosts": ["localhost"]}))
    with pytest.raises(UserError, match=r"no site is enrolled; .*: fedtransfer server enroll"):
        request_run(empty, None, {}, "")


def test_a_stopped_run_goes_on_with_its_own_settings(coordinator: Coordinator) -> None:
    first = request_run(coordinator, None, {"rounds": 9, "seed": 3}, "one")
    with pytest.raises(UserError, match="no such run"):
        resume_run(coordinator, "other")
    write_settings(first.folder, first.config)  # as the ServerApp does
    end(coordinator, "stopped")
    again = resume_run(coordinator, "one")
    assert again.config == first.config.model_copy(update={"resume": True})
    end(coordinator, "failed")
    (first.folder / "summary.json").write_text(json.dumps({"rounds_planned": 9}))
    with pytest.raises(UserError, match="this run is finished; its result is in"):
        resume_run(coordinator, "one")


def test_files_of_a_run_are_found_from_wherever_it_is_run(
    coordinator: Coordinator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    files = {"backbone": "own.keras", "feature-statistics": "public.npz"}
    config = request_run(coordinator, None, files, "one").config
    assert (config.backbone, config.feature_statistics) == (
        str(tmp_path / "own.keras"),
        str(tmp_path / "public.npz"),
    )
    end(coordinator, "finished")
    config = request_run(coordinator, None, {}, "two").config
    assert (config.backbone, config.weights, config.feature_statistics) == (RunConfig().backbone, "", "")


def test_a_backbone_that_made_ready_made_features_is_no_file(coordinator: Coordinator) -> None:
    run = request_run(coordinator, None, {"backbone": "uni2-h-features-32@1.0"}, "ready-made")
    assert run.config.backbone == "uni2-h-features-32@1.0"
