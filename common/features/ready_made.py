"""Ready-made features in a run: are they of its backbone, and what takes its place?"""

from collections.abc import Sequence
from dataclasses import replace

from fedtransfer.common.backbone.backbone import Backbone, ReadyMade
from fedtransfer.common.backbone.origin import origin
from fedtransfer.common.config.config import BUNDLED, RunConfig
from fedtransfer.common.config.settings.option import changed_of
from fedtransfer.common.data.feature_card import FeatureCard, card_of
from fedtransfer.common.data.feature_table import FeatureTable
from fedtransfer.common.errors import UserError

_OF_PIXELS = ("augment", "trainable", "unfreeze_at")
_OF_THE_NETWORK = ("weights", "preprocessing", "resolution", "fit", "precision")


def card_for(backbone: Backbone, rows: int = 0) -> FeatureCard:
    """Return the card of features that a backbone makes."""
    if isinstance(backbone, ReadyMade) and (card := card_of(backbone.name)):
        return replace(card, rows=rows)
    return FeatureCard(backbone.name, backbone.features, backbone.identity, backbone.resolution, rows)


def difference(card: FeatureCard, backbone: Backbone, pixels: int = 0) -> str:
    """Say why features with a card are not those of a run's backbone; "" if they are.

    Args:
        card: what the features file says.
        backbone: the run's backbone at this site.
        pixels: the resolution that a coordinator names; 0 for that of the backbone.
    """
    pixels = pixels or backbone.resolution
    expected = card_of(backbone.name) if isinstance(backbone, ReadyMade) else None
    if expected:
        pairs = ((expected.name, card.name), (expected.version, card.version))
        same = expected.width == card.width and all(wanted in ("", has) for wanted, has in pairs)
        words = str(expected)
    else:
        same = (card.sha256, card.width) == (backbone.identity, backbone.features)
        words = str(card_for(backbone))
    if same and card.resolution and pixels and card.resolution != pixels:
        return f"ready-made features of images at {card.resolution} px; the run expects {pixels} px"
    return "" if same else f"ready-made features of {card}; the run expects those of {words}"


def check_tables(tables: Sequence[FeatureTable], backbone: Backbone) -> None:
    """Check that features files are of a backbone. Raises UserError: one is of another."""
    for table in tables:
        if why := difference(table.card, backbone):
            raise UserError(
                f"{table.path}: {why}; all sites need features of one network, which --backbone names "
                f"(these: {table.card.backbone})"
            )


def refuse_pixels(config: RunConfig, tables: Sequence[FeatureTable]) -> None:
    """Raise a UserError if a run needs pixels, and data are features."""
    if tables and (unusable := changed_of(config, _OF_PIXELS)):
        raise UserError(f"{tables[0].path}: ready-made features; {unusable} needs images")


def without_network(config: RunConfig, card: FeatureCard, *, named: bool) -> RunConfig:
    """Return a run's settings for a site with features whose network need not be here.

    If it is not, the card takes its place: its SHA-256 is the fingerprint that sites compare. Only
    a file that is ``named`` by the site itself is looked for.

    Raises:
        UserError: the run subtracts a public mean that only comes with the network.
    """
    is_here = config.backbone == BUNDLED or (named and origin(config.backbone, config.weights) is not None)
    if card_of(config.backbone) or is_here or not card.sha256:
        return config
    if config.standardise == "centre" and not config.feature_statistics:
        raise UserError(
            f"the run's backbone, {config.backbone}, is not on this machine, and --standardise centre "
            "subtracts the public mean of its features; bring the network here, or agree on --standardise "
            "federated, which does without"
        )
    defaults = {name: RunConfig.model_fields[name].default for name in _OF_THE_NETWORK}
    return config.model_copy(update={"backbone": card.backbone, **defaults})
