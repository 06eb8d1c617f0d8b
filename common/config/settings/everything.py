"""All settings of a run, and what follows; ``fedtransfer.common.config.config`` adds the rules.

Flower's run config is flat, knows neither lists nor null and overrides only keys that are present
in ``pyproject.toml``; so every field is a string, number or boolean; 0 or "" says "not set".
"""

from itertools import compress

import tomli_w

from fedtransfer.common.config.settings import federation, training
from fedtransfer.common.config.settings.option import Value
from fedtransfer.common.methods import METHODS, outside
from fedtransfer.common.methods.method import Method

OPTIONAL_EXCHANGES = ("federated-statistics", "deeper-layers")  # a run may ask for them, and a site refuse


class Settings(  # pydantic lists the fields of the last base first
    federation.RunSettings, federation.AttackSettings, federation.PrivacySettings, federation.TrustSettings,
    federation.StrategySettings, federation.FederationSettings, training.TrainingSettings,
    training.HeadSettings, training.FeatureSettings, training.BackboneSettings, training.DataSettings,
):  # fmt: skip
    """All that determines a run."""

    @property
    def method(self) -> Method:
        """The record of the run's strategy."""
        return METHODS.get(self.strategy) or outside(self.strategy)

    @property
    def closed_form(self) -> bool:
        """Whether the run ends with a one-shot head, without any round of training."""
        return bool(self.method.sums)

    @property
    def one_shot(self) -> str:
        """The one-shot head that the run begins with; "" for none."""
        return self.strategy if self.closed_form else self.init if self.init != "zeros" else ""

    @property
    def exchanges(self) -> tuple[str, ...]:
        """The methods of a run: a one-shot first head, the strategy, and optional exchanges."""
        deep = self.trainable != "head" or self.unfreeze_at
        more = compress(OPTIONAL_EXCHANGES, (self.standardise == "federated", deep))
        return tuple(dict.fromkeys(filter(None, (self.one_shot, self.method.name, *more))))

    @property
    def gatherings(self) -> int:
        """How often sites send sums of their features before the first round."""
        return (self.standardise == "federated") + bool(self.one_shot)

    @property
    def weights_of_sites(self) -> str:
        """The weight of a site's update; uniform for strategies that count every site once."""
        return self.weighting if self.method.weighted else "uniform"

    @property
    def private(self) -> bool:
        """Whether the run has differential privacy: then only accounted releases leave a site."""
        return self.dp != "none"

    @property
    def hides_counts(self) -> bool:
        """Whether sites keep to themselves how many images they have, in all and of each class."""
        return self.private or self.masks

    @property
    def secret_cohorts(self) -> bool:
        """Whether a round's cohort is secret, as the accounting of a sample of sites assumes."""
        return self.dp == "site" and self.noise == "alone" and self.fraction < 1

    @property
    def private_steps(self) -> int:
        """Releases of a site in a round under image privacy: its training steps, or one of sums."""
        return (
            1 if self.closed_form else self.local_steps or max(1, round(self.local_epochs / self.image_rate))
        )

    @property
    def honest_sites(self) -> int:
        """The least number of sites of a total that add their share of the noise."""
        return self.min_sites - self.colluding_sites

    @property
    def training_rounds(self) -> int:
        """Rounds of training: none where the head is a closed form."""
        return 0 if self.closed_form else self.rounds

    @property
    def declared_classes(self) -> tuple[str, ...]:
        """The names of ``class_names``; none where the classes are those found."""
        return tuple(name.strip() for name in self.class_names.split(",") if name.strip())

    @property
    def participants(self) -> int:
        """Number of sites of the federation; in a simulation, without the unseen ones."""
        return self.sites - self.unseen_sites

    @property
    def adaptation_epochs(self) -> int:
        """Epochs of fine-tuning the global head to a site's personal one; 0: no personal heads."""
        # Scores of personal heads would reveal private images, so under differential privacy sites
        # adapt the head by themselves, after the run.
        adapts = self.method.adapts and not self.private
        return self.personal_epochs or (self.local_epochs if adapts else 0)

    def to_flat(self) -> dict[str, Value]:
        """Return every setting by outside name, as TOML files and Flower's run config have it."""
        return self.model_dump(by_alias=True)

    def to_toml(self) -> str:
        """Return the config as a TOML document that ``read_toml`` reads back."""
        return tomli_w.dumps(self.to_flat())
