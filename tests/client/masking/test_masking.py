"""A site under a server that breaks the protocol: what it refuses, and what it never tells."""

from copy import deepcopy
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given, settings
from hypothesis import strategies as st
from masked_sites import CLASSES, Cluster, masked_config, update

from fedtransfer.client.deployment.settings import SiteFolder, SiteSettings
from fedtransfer.client.masking.masking import Masking
from fedtransfer.client.masking.secrets import Safe
from fedtransfer.client.node import Node
from fedtransfer.common.errors import SiteError
from fedtransfer.common.masks import messages, shamir
from fedtransfer.common.masks.messages import common_part
from fedtransfer.common.masks.secrecy import agreement_key, derived, pad, public
from fedtransfer.common.masks.vector import decode, encode, rounding_error
from fedtransfer.common.support.keys import is_signed, public_line, read_line, sign
from fedtransfer.common.wire import protocol
from fedtransfer.common.wire.protocol import TRAIN, Confusion, Task, Update

FIVE = tuple(f"site-{i:03}" for i in range(5))
ANNA, DROPPED = FIVE[0], FIVE[4]


def refused(words: str):
    return pytest.raises(SiteError, match=words)


@pytest.fixture
def cluster() -> Cluster:
    return Cluster(masked_config(5))


def without_pads(cluster: Cluster) -> np.ndarray:
    """Go through all stages with five sites; return the sum of their vectors less their pads."""
    signatures = {site: cluster.sites[site].answer(cluster.survivors(site)).signature for site in FIVE}
    shown = {site: cluster.sites[site].answer(cluster.unmasking(site, signatures)).shares for site in FIVE}
    total = np.sum([cluster.vectors[site].vector for site in FIVE], axis=0, dtype=np.uint64)
    for owner in FIVE:
        given = {
            FIVE.index(site) + 1: int.from_bytes(
                shown[site][[name for name in FIVE if name != site].index(owner)].tobytes(), "big"
            )
            for site in FIVE if site != owner
        }  # fmt: skip
        seed = shamir.combine(dict(list(given.items())[: cluster.graph.threshold])).to_bytes(32, "big")
        total -= pad(derived(seed, cluster.session.context("pad", owner)), len(total))
    return total


def test_five_sites_add_up_and_a_vector_alone_says_nothing(cluster: Cluster) -> None:
    cluster.mask()
    sent = [update(i) for i in range(5)]
    with pytest.raises(ValueError, match="no vectors of the sites"):
        decode(np.sum([cluster.vectors[site].vector for site in FIVE], axis=0, dtype=np.uint64), sent[0], 5)
    result = decode(without_pads(cluster), sent[0], 5)
    assert result.examples == sum(answer.examples for answer in sent)
    expected = np.sum([answer.total[0].astype(np.float64) for answer in sent], axis=0)
    assert abs(result.total[0] - expected).max() < rounding_error(5)


@pytest.mark.parametrize(
    "odd",
    [
        {"head": (np.ones(3, np.float32),)},
        {"rate": 0.5},
        {"extra": {"class weights": (np.ones(4, np.float32),)}},
        {"classes": ("a", "b", "d", "c")},
    ],
)
def test_there_is_no_total_where_one_site_was_asked_something_else(cluster: Cluster, odd: dict) -> None:
    """Else a head made for one site would show what that site alone answers to it."""
    cluster.share()
    for i, site in enumerate(FIVE):
        task = cluster.task(site, **(odd if i == 2 else {}))
        cluster.vectors[site] = cluster.sites[site].mask(task, TRAIN, lambda i=i: update(i))
    with pytest.raises(ValueError, match="no vectors of the sites"):
        decode(without_pads(cluster), update(0), 5)


PRIVATE = {
    "dp": "site", "noise": "shared", "noise_multiplier": 2.0, "clip": 0.25,
    "weighting": "uniform", "min_sites": 5,
}  # fmt: skip


@pytest.mark.parametrize(
    "odd", [{"noise_multiplier": 0.02}, {"noise": "alone"}, {"clip": 25.0}, {"min_sites": 4}]
)
def test_there_is_no_total_where_one_site_was_given_other_settings(odd: dict) -> None:
    """Else the others could be told to add no noise: the total would hold one site's share only."""
    cluster = Cluster(masked_config(5, **PRIVATE))
    for site in FIVE[1:]:
        cluster.sites[site] = replace(cluster.sites[site], config=cluster.config.model_copy(update=odd))
    cluster.mask()
    with pytest.raises(ValueError, match="no vectors of the sites"):
        decode(without_pads(cluster), update(0), 5)


def test_settings_of_a_site_s_own_make_no_difference() -> None:
    cluster = Cluster(masked_config(5, feature_statistics="public.npz"))
    own = {
        "threads": 3, "strict": True, "store": "elsewhere", "backbone": "resnet50", "weights": "mine.h5",
        "feature_statistics": "mine.npz",
    }  # fmt: skip
    settings = {"name": "anna", "coordinator": "fed.example.org:9443", "data": "images", **own}
    folder = SiteFolder(Path("anna"), SiteSettings.model_validate(settings))
    applied = folder.apply(cluster.config)
    assert applied.model_dump(include=set(own)) != cluster.config.model_dump(include=set(own))
    cluster.sites[ANNA] = replace(cluster.sites[ANNA], config=applied)
    cluster.mask()
    assert decode(without_pads(cluster), update(0), 5).examples == sum(update(i).examples for i in range(5))


def test_what_differs_from_site_to_site_makes_no_difference(cluster: Cluster) -> None:
    cluster.share()
    for i, site in enumerate(FIVE):
        cluster.vectors[site] = cluster.sites[site].mask(
            cluster.task(site, counted=i), TRAIN, lambda i=i: update(i)
        )
    assert decode(without_pads(cluster), update(0), 5).examples == sum(update(i).examples for i in range(5))


def test_masked_vectors_are_uniform_and_do_not_depend_on_what_is_masked() -> None:
    zeros = tuple(np.zeros_like(array) for array in update(0).total)
    seen = []
    for total in (zeros, zeros, update(1).total):
        cluster = Cluster(masked_config(5))
        cluster.share()
        for i, site in enumerate(FIVE[:2]):
            answer = replace(update(i), total=total)
            vector = cluster.sites[site].mask(cluster.task(site), TRAIN, lambda answer=answer: answer).vector
            seen.append(vector)
    octets = np.concatenate(seen).view(np.uint8)
    observed, expected = np.bincount(octets, minlength=256), octets.size / 256
    assert (np.square(observed - expected) / expected).sum() < 380, (
        "chi-square of 255 degrees: below 1e-6 by chance"
    )
    centred = np.array([vector.astype(np.float64) - 2.0**63 for vector in seen])
    apart = np.corrcoef(centred) - np.eye(len(seen))
    assert abs(apart).max() < 6 / np.sqrt(centred.shape[1]), (
        "the same update twice is as far apart as two different ones"
    )
    plain = encode(update(1), 5, np.random.default_rng(0)).view(np.int64).astype(np.float64)
    assert abs(np.corrcoef([*centred, plain])[-1, :-1]).max() < 6 / np.sqrt(centred.shape[1])


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (
            {"names": FIVE[:2], "signatures": ("",) * 2, "enrolled": ("",) * 2},
            "shares masks with at least 2 others",
        ),
        ({"names": FIVE[::-1]}, "not sorted"),
        ({"names": (*FIVE[:4], FIVE[3])}, "not sorted"),
        ({"names": tuple(f"site-{i:03}" for i in range(1, 6))}, "without this site"),
        ({"signatures": ("",) * 4}, "not complete"),
    ],
)
def test_lists_of_peers_that_are_refused(cluster: Cluster, changes: dict, words: str) -> None:
    cluster.invite()
    if len(changes.get("names", FIVE)) == 2:
        keys = [cluster.keys[name] for name in FIVE[:2]]
        changes = {
            **changes,
            "masks": tuple(key.mask for key in keys),
            "boxes": tuple(key.box for key in keys),
        }
    with refused(words):
        cluster.sites[ANNA].answer(cluster.peers(ANNA, **changes))


def test_other_keys_of_oneself_are_refused(cluster: Cluster) -> None:
    cluster.invite()
    masks = ("ab" * 32, *(cluster.keys[name].mask for name in FIVE[1:]))
    with refused("with other keys for it"):
        cluster.sites[ANNA].answer(cluster.peers(ANNA, masks=masks))


def test_a_run_may_want_more_sites_in_a_total_than_there_are_peers() -> None:
    cluster = Cluster(masked_config(5, min_sites=5))
    cluster.invite()
    keys = [cluster.keys[name] for name in FIVE[:4]]
    four = {
        "names": FIVE[:4], "masks": tuple(key.mask for key in keys), "boxes": tuple(key.box for key in keys),
        "signatures": ("",) * 4, "enrolled": ("",) * 4,
    }  # fmt: skip
    with refused("sent keys of 4 sites; this site shares masks with at least 4 others"):
        cluster.sites[ANNA].answer(cluster.peers(ANNA, **four))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"sharers": FIVE[1:]}, "this site"),
        ({"sharers": FIVE[:3]}, "a masked sum over 3 sites; this site requires at least 4"),
        ({"sharers": (*FIVE, "site-999")}, "names one without masks"),
        ({"boxes": ()}, "sent 0 boxes of 4 neighbours"),
        ({"sharers": FIVE[:4]}, "sent 4 boxes of 3 neighbours"),
        ({"nonce": "another"}, "in another session"),
        ({"round": 2}, "masks of another round"),
        ({"site": FIVE[1]}, "under another name"),
        ({"nonce": ""}, "without masks, which the run's settings exclude"),
    ],
)
def test_requests_that_are_not_answered(cluster: Cluster, changes: dict, words: str) -> None:
    cluster.share()
    computed = []
    with refused(words):
        cluster.sites[ANNA].mask(replace(cluster.task(ANNA), **changes), TRAIN, lambda: computed.append(1))
    assert not computed, "refused before any work"


def test_a_site_whose_neighbours_are_kept_from_it_does_not_answer() -> None:
    """On a sparse graph many sharers may be listed, and yet a site be left with too few masks."""
    cluster = Cluster(masked_config(200))
    cluster.invite()
    cluster.sites[ANNA].answer(cluster.peers(ANNA))
    around, numbers = cluster.around(ANNA), cluster.graph
    kept = around[: 200 - numbers.least]
    sharers = tuple(name for name in cluster.names if name not in kept)
    boxes = (np.zeros((len(around) - len(kept), 92), np.uint8),)
    assert len(sharers) == numbers.least
    task = Task(ANNA, 1, ("a",), (), nonce=cluster.session.nonce, sharers=sharers, boxes=boxes)
    sent = f"sent {len(boxes[0])} boxes of {len(boxes[0])} neighbours"
    with refused(f"{sent}; this site shares masks with at least {numbers.threshold}"):
        cluster.sites[ANNA].mask(task, TRAIN, lambda: update(0))


def test_a_request_of_another_kind_is_not_answered_under_the_masks(cluster: Cluster) -> None:
    cluster.share()
    with refused("of another kind"):
        cluster.sites[ANNA].mask(cluster.task(ANNA), protocol.EVALUATE, lambda: update(0))


def test_a_box_that_was_changed_or_is_for_another_is_refused(cluster: Cluster) -> None:
    cluster.share()
    [boxes] = cluster.task(ANNA).boxes
    for wrong in (boxes ^ np.uint8(1), boxes[::-1].copy(), cluster.task(FIVE[1]).boxes[0]):
        site = deepcopy_of(cluster.sites[ANNA])
        with refused("its sender did not seal for this site"):
            site.mask(cluster.task(ANNA, boxes=(wrong,)), TRAIN, lambda: update(0))


def deepcopy_of(site: Masking) -> Masking:
    """A site restored from a copy of Flower's context, in another process."""
    return Masking(Safe(deepcopy(site.safe.state), type(site.safe.steps)()), site.node, site.config)


def test_two_answers_are_never_given_under_the_same_masks(cluster: Cluster) -> None:
    """Their difference would be that of the answers."""
    cluster.share()
    site = cluster.sites[ANNA]
    task, stale = cluster.task(ANNA), deepcopy(site.safe.state)
    site.mask(task, TRAIN, lambda: update(0))
    with refused("each step once"):
        site.mask(task, TRAIN, lambda: update(1))
    with refused("each step once"):  # a message that was fetched together with the other, context and all
        replace(site, safe=Safe(stale, site.safe.steps)).mask(task, TRAIN, lambda: update(1))


def test_an_answer_that_failed_is_not_given_later(cluster: Cluster) -> None:
    cluster.share()

    def fails() -> Update:
        raise SiteError("tired", "not now")

    with refused("not now"):
        cluster.sites[ANNA].mask(cluster.task(ANNA), TRAIN, fails)
    with refused("each step once"):
        cluster.sites[ANNA].mask(cluster.task(ANNA), TRAIN, lambda: update(0))


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (FIVE[1:], "this site"),
        (FIVE[:3], "a masked sum over 3 sites; this site requires at least 4"),
        (FIVE[::-1], "not sorted"),
        ((*FIVE[:3], FIVE[2]), "not sorted"),
        ((*FIVE, "site-999"), "names one without masks"),
        ((), "this site"),
    ],
)
def test_forged_lists_of_survivors_are_refused(cluster: Cluster, names: tuple[str, ...], words: str) -> None:
    cluster.mask()
    with refused(words):
        cluster.sites[ANNA].answer(cluster.survivors(ANNA, names))


def test_one_list_is_agreed_to(cluster: Cluster) -> None:
    cluster.mask()
    site = cluster.sites[ANNA]
    stale = deepcopy(site.safe.state)
    site.answer(cluster.survivors(ANNA))
    for state in (site.safe.state, stale):
        with refused("each step once"):
            replace(site, safe=Safe(state, site.safe.steps)).answer(cluster.survivors(ANNA, FIVE[:4]))


def test_shares_of_both_kinds_of_one_peer_are_never_shown(cluster: Cluster) -> None:
    """Whatever lists of survivors a server thinks up, before or after, or both at once."""
    signatures = cluster.agree()
    site = cluster.sites[ANNA]
    stale = deepcopy(site.safe.state)
    without = {name: signatures[name] for name in FIVE[:4]}
    with refused("other sites than this site agreed to"):
        deepcopy_of(site).answer(cluster.unmasking(ANNA, without, FIVE[:4]))
    site.answer(cluster.unmasking(ANNA, signatures))
    with refused("or has unmasked the sum"):
        site.answer(cluster.unmasking(ANNA, without, FIVE[:4]))
    with refused("each step once"):
        replace(site, safe=Safe(stale, site.safe.steps)).answer(cluster.unmasking(ANNA, signatures))


def test_the_share_shown_is_of_the_pad_of_survivors_and_of_the_key_of_those_who_dropped_out() -> None:
    cluster = Cluster(masked_config(5))
    cluster.mask()
    four = FIVE[:4]
    signatures = {site: cluster.sites[site].answer(cluster.survivors(site, four)).signature for site in four}
    shares = {}
    for site in four:
        rows = cluster.sites[site].answer(cluster.unmasking(site, signatures, four)).shares
        at = [name for name in FIVE if name != site].index(DROPPED)
        shares[FIVE.index(site) + 1] = int.from_bytes(rows[at].tobytes(), "big")
    secret = shamir.combine(dict(list(shares.items())[: cluster.graph.threshold]))
    assert public(agreement_key(secret)).hex() == cluster.keys[DROPPED].mask


@pytest.mark.parametrize(
    ("signers", "words"),
    [
        (FIVE[:2], "2 sites signed the list .* 3 must"),
        ((ANNA, ANNA, ANNA), "3 must"),
        (("x", "y", "z"), "3 must"),
        ((), "0 sites"),
    ],
)
def test_a_list_that_too_few_agreed_to_is_not_acted_upon(
    cluster: Cluster, signers: tuple, words: str
) -> None:
    cluster.agree()
    asked = replace(cluster.unmasking(ANNA, {}), signers=signers, signatures=("",) * len(signers))
    with refused(words):
        cluster.sites[ANNA].answer(asked)


def test_a_site_that_did_not_agree_shows_nothing(cluster: Cluster) -> None:
    cluster.mask()
    signatures = {site: cluster.sites[site].answer(cluster.survivors(site)).signature for site in FIVE[1:]}
    with refused("after stage 4 of its masks, but this site has finished stage 3"):
        cluster.sites[ANNA].answer(cluster.unmasking(ANNA, signatures))


def test_a_site_that_was_started_anew_has_dropped_out(cluster: Cluster) -> None:
    signatures = cluster.agree()
    cluster.sites[ANNA].safe.state.clear()
    with refused("restarted since"):
        cluster.sites[ANNA].answer(cluster.unmasking(ANNA, signatures))


def test_nothing_is_left_after_the_end_and_a_session_ends_the_one_before(cluster: Cluster) -> None:
    signatures = cluster.agree()
    cluster.sites[ANNA].answer(cluster.unmasking(ANNA, signatures))
    assert not cluster.sites[ANNA].safe.state
    site = cluster.sites[FIVE[1]]
    site.answer(replace(messages.Invitation(**cluster.stage(FIVE[1])), nonce="next"))
    with refused("in another session"):
        site.answer(cluster.unmasking(FIVE[1], signatures))


def test_keys_are_fresh_in_each_session_also_of_the_same_name(cluster: Cluster) -> None:
    cluster.invite()
    before = cluster.keys
    cluster.invite()
    for site in FIVE:
        assert {before[site].mask, before[site].box}.isdisjoint(
            {cluster.keys[site].mask, cluster.keys[site].box}
        )


def test_the_result_is_taken_without_masks_and_nothing_told(cluster: Cluster) -> None:
    kept, told = [], update(0)
    scores = (1, "f" * 64, "c" * 16, told.validation, told.test)

    def keep() -> Confusion:
        kept.append(1)
        return Confusion(*scores, np.eye(CLASSES, dtype=np.int64))

    answer = cluster.sites[ANNA].mask(cluster.task_of_finish(ANNA), protocol.FINISH, keep)
    assert kept
    assert isinstance(answer, Confusion)
    assert not answer.matrix.any()
    assert answer.test.total == 0


def test_a_run_without_masks_makes_no_keys() -> None:
    cluster = Cluster(masked_config(5).model_copy(update={"masks": False}))
    with refused("which the run's settings do not have"):
        cluster.invite()


@settings(max_examples=15)
@given(st.integers(3, 9), st.data())
def test_totals_of_any_number_of_sites_with_any_allowed_dropouts(sites: int, data: st.DataObject) -> None:
    cluster = Cluster(masked_config(sites))
    least = cluster.graph.least
    left = tuple(sorted(data.draw(st.sets(st.sampled_from(cluster.names), min_size=least))))
    cluster.mask(left)
    signatures = {site: cluster.sites[site].answer(cluster.survivors(site, left)).signature for site in left}
    shown = {
        site: cluster.sites[site].answer(cluster.unmasking(site, signatures, left)).shares for site in left
    }
    from fedtransfer.server.masking.unmasking import Cohort

    keys = {name: bytes.fromhex(cluster.keys[name].mask) for name in cluster.names}
    around = {name: cluster.around(name) for name in cluster.names}
    asked = common_part(cluster.task(left[0]), cluster.config)
    cohort = Cohort(
        cluster.session, cluster.graph, cluster.names, keys, around, frozenset(cluster.names), asked
    )
    total = np.sum([cluster.vectors[site].vector for site in left], axis=0, dtype=np.uint64)
    result = decode(cohort.unmask(total, left, shown), update(0), sites)
    sent = [update(i) for i in range(len(left))]
    assert result.examples == sum(answer.examples for answer in sent)
    expected = np.sum([answer.total[0].astype(np.float64) for answer in sent], axis=0)
    assert abs(result.total[0] - expected).max() < rounding_error(sites)


@dataclass(frozen=True)
class EnrolledSite(Node):
    """A node of a site that has a key, and believes the server about the keys of others."""

    key: ec.EllipticCurvePrivateKey | None = None

    def identity(self, name, told):
        return Signer(self.key, told)


@dataclass(frozen=True)
class Signer:
    key: ec.EllipticCurvePrivateKey
    told: dict

    def sign(self, data: bytes) -> bytes:
        return sign(self.key, data)

    def verify(self, site: str, data: bytes, signature: bytes) -> None:
        if not is_signed(read_line(self.told[site]), data, signature):
            raise SiteError("wrong-signature", f"not signed by {site}")


@pytest.fixture
def signing(monkeypatch: pytest.MonkeyPatch) -> Cluster:
    """Five enrolled sites."""
    keys = {name: ec.generate_private_key(ec.SECP256R1()) for name in FIVE}
    cluster = Cluster(
        masked_config(5), {name: EnrolledSite("", Path(), key=key) for name, key in keys.items()}
    )
    lines = tuple(public_line(key.public_key()) for key in keys.values())
    plain = cluster.peers
    monkeypatch.setattr(
        cluster, "peers", lambda site, **changes: plain(site, **{"enrolled": lines, **changes})
    )
    return cluster


def test_enrolled_sites_sign_their_keys_and_lists_and_go_through(signing: Cluster) -> None:
    signatures = signing.agree()
    assert all(len(signature) > 100 for signature in signatures.values())
    shown = [signing.sites[site].answer(signing.unmasking(site, signatures)) for site in FIVE]
    assert [each.shares.shape for each in shown] == [(4, 32)] * 5


def test_keys_that_another_signed_or_for_another_session_are_refused(signing: Cluster) -> None:
    signing.invite()
    own = [signing.keys[name] for name in FIVE]
    swapped = tuple(key.signature for key in (own[0], own[2], own[1], *own[3:]))
    with refused(f"not signed by {FIVE[1]}"):
        signing.sites[ANNA].answer(signing.peers(ANNA, signatures=swapped))
    signing.invite()
    other = replace(signing.session, nonce="f" * 16)
    old = signing.sites[DROPPED].answer(messages.Invitation(site=DROPPED, **vars(other)))
    masks, boxes, signatures = (
        (*(getattr(signing.keys[name], part) for name in FIVE[:4]), getattr(old, part))
        for part in ("mask", "box", "signature")
    )
    with refused(f"not signed by {DROPPED}"):
        signing.sites[FIVE[1]].answer(signing.peers(FIVE[1], masks=masks, boxes=boxes, signatures=signatures))


def test_keys_of_sites_with_other_settings_are_refused(signing: Cluster) -> None:
    other = signing.config.model_copy(update={"noise_multiplier": 1e-6})
    for site in FIVE[1:]:
        signing.sites[site] = replace(signing.sites[site], config=other)
    signing.invite()
    with refused(f"not signed by {FIVE[1]}"):
        signing.sites[ANNA].answer(signing.peers(ANNA))


def test_signatures_on_another_list_of_survivors_do_not_count(signing: Cluster) -> None:
    """The server tells one half that all survived, the other that one dropped out."""
    signing.mask()
    all_five = {site: signing.sites[site].answer(signing.survivors(site)).signature for site in FIVE[:2]}
    four = {
        site: signing.sites[site].answer(signing.survivors(site, FIVE[:4])).signature for site in FIVE[2:4]
    }
    with refused(f"not signed by {FIVE[2]}"):
        signing.sites[ANNA].answer(signing.unmasking(ANNA, all_five | {FIVE[2]: four[FIVE[2]]}))
    with refused(f"not signed by {FIVE[0]}"):
        signing.sites[FIVE[2]].answer(
            signing.unmasking(FIVE[2], {FIVE[0]: all_five[FIVE[0]], **four}, FIVE[:4])
        )
