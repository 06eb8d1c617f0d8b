"""Sites whose sums of features are missing, late or impossible: left out, or the run stops."""

from pathlib import Path

import numpy as np
import pytest
from drawn_sites import Drawn, assert_same, hanging, three_sites

from fedtransfer.common.errors import SiteError, UserError
from fedtransfer.common.wire.protocol import Gather, Sums, Trial

DATA = three_sites()


def refusing(*names: str, times: int = 100, what: type = Gather):
    left = dict.fromkeys(names, times)

    def refuse(site: str, request, value):
        if isinstance(request, what) and left.get(site, 0):
            left[site] -= 1
            raise SiteError("policy", "this site sends no sums")
        return value

    return refuse


def test_a_site_that_refuses_to_sum_is_left_out_of_the_sums_only(tmp_path: Path, caplog) -> None:
    run = Drawn(DATA, tmp_path / "run", refusing("bert"))
    outcome = run.run(standardise="federated", init="fed3r", rounds=1)
    x = np.concatenate([DATA[site]["train"][0] for site in ("anna", "carl")]).astype(np.float64)
    np.testing.assert_allclose(outcome.moments[0], x.mean(0), rtol=1e-9)
    gathered, summed, tried, trained = run.records[:4]
    for record in (gathered, summed):
        assert (record.phase, record.attempt, set(record.answers)) == ("sums", 3, {"anna", "carl"})
        assert record.refused == {"bert": "policy: this site sends no sums"}
    assert set(tried.answers) == set(trained.answers) == {"anna", "bert", "carl"}
    assert "bert is left out: policy: " in caplog.text
    asked = [site for site, request in run.asked if isinstance(request, Gather) and request.what == "gram"]
    assert sorted(asked) == ["anna", "bert", "bert", "bert", "carl"], "who has answered is not asked again"


def test_a_silent_site_is_left_out_of_the_sums(tmp_path: Path) -> None:
    with hanging() as hang:

        def silent(site: str, request, value):
            if site == "anna" and isinstance(request, Gather):
                hang()
            return value

        run = Drawn(DATA, tmp_path, silent)
        outcome = run.run(strategy="fedncm", round_retries=0)
    assert run.records[0].refused == {"anna": "did not answer in time"}
    without = Drawn({site: DATA[site] for site in ("bert", "carl")}, tmp_path / "without").run(
        strategy="fedncm"
    )
    scale = without.progress.one_shot["factor"] / outcome.progress.one_shot["factor"]
    assert_same(
        outcome.progress.state.head, [array / np.float32(scale) for array in without.progress.state.head]
    )


def test_too_few_sums_stop_the_run_with_the_reasons(tmp_path: Path) -> None:
    run = Drawn(DATA, tmp_path, refusing("anna", "bert"))
    with pytest.raises(
        UserError,
        match=r"round 0: 1 of 3 .* 2 are needed; tried 3 times(.|\n)*"
        r"\n  anna: policy: .*\n  bert: policy: ",
    ):
        run.run(standardise="federated")
    with pytest.raises(UserError, match=r"round 0: 2 of 3 .* 3 are needed; not tried again"):
        Drawn(DATA, tmp_path, refusing("bert")).run(strategy="fed3r", min_sites=3, round_retries=0)
    with pytest.raises(UserError, match=r"round 0: 0 of 3 .* 2 are needed"):
        Drawn(DATA, tmp_path, refusing(*DATA, what=Trial)).run(strategy="fed3r")


def test_a_site_that_comes_back_is_in_the_sums_and_the_bytes_are_those_of_an_answer(tmp_path: Path) -> None:
    """``anna`` is the first in site order; her refusal is no measure of what others send."""
    calm, back = Drawn(DATA, tmp_path / "calm"), Drawn(DATA, tmp_path / "back", refusing("anna", times=1))
    expected, outcome = calm.run(strategy="fed3r"), back.run(strategy="fed3r")
    assert_same(outcome.best.head, expected.best.head)
    assert back.records[0].attempt == 2
    assert back.records[0].refused == {}
    left_out = Drawn(DATA, tmp_path / "left out", refusing("anna"))
    left_out.run(strategy="fed3r")
    for record in (back.records[0], left_out.records[0]):
        assert (record.bytes_down, record.bytes_up) == (calm.records[0].bytes_down, calm.records[0].bytes_up)


@pytest.mark.parametrize("damage", ["nan", "examples"])
def test_impossible_sums_are_left_out(tmp_path: Path, damage: str) -> None:
    def lie(site: str, request, value):
        if site == "bert" and isinstance(value, Sums):
            if damage == "nan":
                value.arrays[0][0] = np.nan
            else:
                object.__setattr__(value, "examples", value.examples + 1)
        return value

    run = Drawn(DATA, tmp_path, lie)
    run.run(strategy="fedncm")
    assert set(run.records[0].answers) == {"anna", "carl"}
    expected = {"nan": "sent sums with NaN", "examples": "do not add up to its 22 training images"}[damage]
    assert expected in run.records[0].refused["bert"]
