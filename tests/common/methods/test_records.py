"""The records of methods say what the rules do: tables and refusals never differ."""

from typing import Any

import pytest

from fedtransfer.common.config.config import RunConfig
from fedtransfer.common.config.settings.option import outside
from fedtransfer.common.methods import METHODS, ONE_SHOT
from fedtransfer.common.methods.add_ons import ADD_ONS
from fedtransfer.common.methods.method import AddOn, Method, Verdict

DECLARED: dict[str, Any] = {"classes": "declared", "class_names": "cat,dog"}
DP: dict[str, Any] = {"epsilon": 8.0, "public_data": "public.npz", **DECLARED}
PROTECTIONS: dict[str, dict[str, Any]] = {
    "masks": {"masks": True, **DECLARED},
    "dp_site": {"dp": "site", **DP},
    "dp_image": {"dp": "image", **DP},
}
ASKED: dict[str, Any] = {
    "init": "fed3r", "personal_epochs": 2, "trainable": "conv5", "unfreeze_at": "2:conv5",
    "standardise": "federated",
}  # fmt: skip
NOT_NUMBERS: dict[str, Any] = {
    "lda": True, "optimizer": "adam", "unfreeze_at": "2:conv5", "patience": 2,
}  # fmt: skip


def settings_of(method: Method) -> dict[str, Any]:
    """Return the settings of a run of a method, with equal weights if it has a choice."""
    return {
        "strategy": method.name,
        **({"weighting": "uniform"} if method.weighted and not method.sums else {}),
    }


def assert_as_said(verdict: Verdict, settings: dict[str, Any]) -> None:
    """Check that a run is let in or refused as the verdict says, and with its reason."""
    if verdict.allowed:
        RunConfig(**settings)
    else:
        with pytest.raises(ValueError, match=r".") as refused:
            RunConfig(**settings)
        assert verdict.reason in str(refused.value)


@pytest.mark.parametrize("protection", PROTECTIONS)
@pytest.mark.parametrize("name", METHODS)
def test_a_method_goes_with_a_protection_as_its_record_says(name: str, protection: str) -> None:
    method = METHODS[name]
    assert_as_said(getattr(method, protection), {**settings_of(method), **PROTECTIONS[protection]})


@pytest.mark.parametrize("protection", PROTECTIONS)
@pytest.mark.parametrize("add_on", ADD_ONS, ids=lambda add_on: add_on.ask)
def test_an_add_on_goes_with_a_protection_as_its_record_says(add_on: AddOn, protection: str) -> None:
    for name in add_on.settings:
        asked = {"weighting": "uniform", name: ASKED[name]}
        verdict = add_on.masks if protection == "masks" else add_on.dp
        assert_as_said(verdict, {**asked, **PROTECTIONS[protection]})


@pytest.mark.parametrize("name", METHODS)
def test_a_method_refuses_the_options_of_others_and_what_its_record_says(name: str) -> None:
    method = METHODS[name]
    for option in {option for each in METHODS.values() for option in each.options}:
        value = NOT_NUMBERS.get(option, 0.3)
        if option in method.options:
            assert getattr(RunConfig(strategy=name, **{option: value}), option) == value
        else:
            with pytest.raises(ValueError, match=f"{outside(option)}: {name} does not use it"):
                RunConfig(strategy=name, **{option: value})
    for setting, why in method.refuses.items():
        with pytest.raises(ValueError, match=f"{outside(setting)} .*: ") as refused:
            RunConfig(strategy=name, **{setting: NOT_NUMBERS.get(setting, 0.5)})
        assert why in str(refused.value)


def test_what_follows_from_a_record() -> None:
    for name, method in METHODS.items():
        config = RunConfig(strategy=name, **({} if method.sums else {"local_epochs": 3}))
        assert config.closed_form == (name in ONE_SHOT)
        assert config.weights_of_sites == ("examples" if method.weighted else "uniform")
        assert config.adaptation_epochs == (3 if method.adapts else 0)
        assert config.exchanges == (name,)
    assert RunConfig(init="fed3r", standardise="federated").exchanges == (
        "fed3r",
        "fedavg",
        "federated-statistics",
    )
