"""Failures are grouped, with their count."""

from fedtransfer.simulations.report.benchmark_runs import grouped

FEW = "too few images"


def told(failures: dict[str, str], *made: str) -> list[str]:
    return [str(failure) for failure in grouped(failures, made)]


def test_a_setting_that_failed_wholly_is_one_line() -> None:
    failures = {f"alpha-0.1, baselines, seed {seed}": FEW for seed in range(2)}
    failures |= {
        f"alpha-0.1, {method}, seed {seed}": FEW for method in ("fedavg", "fed3r") for seed in range(2)
    }
    assert told(failures, "iid") == [f"alpha-0.1: all 4 runs and 2 baselines failed: {FEW}"]
    assert grouped(failures, ["iid"])[0].total
    assert told({name.replace("alpha-0.1", s): FEW for s in ("a", "b") for name in failures}) == [
        f"a, b: all 4 runs and 2 baselines each failed: {FEW}"
    ]


def test_of_other_settings_methods_are_named() -> None:
    failures = {
        "s, fedavg, seed 0": "a",
        "s, fedavg, seed 1": "a",
        "s, fed3r, seed 0": "a",
        "s, fed3r, seed 1": "b",
    }
    assert told(failures, "s") == ["s: 3 runs of fedavg, fed3r failed: a", "s: fed3r, seed 1 failed: b"]
    assert not any(failed.total for failed in grouped(failures, ["s"]))
    assert told(failures)[0] == "s: 3 runs of fedavg, fed3r failed: a", (
        "not all: one failed of something else"
    )
    assert told({"s, m, learning-rate 4.0, seed 7": "a"}, "s") == [
        "s: m, learning-rate 4.0, seed 7 failed: a"
    ]
    assert told({f"s, baselines, seed {seed}": "a" for seed in (0, 1)}, "s") == ["s: 2 baselines failed: a"]


def test_features_are_of_all_their_settings() -> None:
    failures = {"one, features": "no weights", "two, features": "no weights", "three, features": "damaged"}
    assert told(failures) == ["one, two: features each failed: no weights", "three: features failed: damaged"]
