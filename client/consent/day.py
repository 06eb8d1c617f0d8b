"""What a site answers in a day, over all runs: bounds on each kind of message, and on rounds."""

import time
from collections.abc import Mapping

from fedtransfer.client.consent.exchange_log import DAY, ExchangeLog
from fedtransfer.client.deployment.settings import SiteFolder
from fedtransfer.common.config.config import RunConfig
from fedtransfer.common.errors import SiteError
from fedtransfer.common.masks import messages
from fedtransfer.common.wire import protocol

# Message type → its key in [messages-a-day] of site.toml.
_KEYS: Mapping[str, str] = {
    protocol.QUERY: "query", protocol.TRAIN: "train", protocol.GATHER: "gather",
    protocol.EVALUATE: "evaluate", protocol.TRIAL: "trial", protocol.PERSONAL: "personal",
    protocol.FINISH: "finish", **dict.fromkeys(messages.KINDS, "masks"),
}  # fmt: skip


def refuse_beyond_day(site: SiteFolder, config: RunConfig, kind: str) -> None:
    """Refuse a message if the site has answered as many of its kind within 24 hours as it allows.

    A query asks for all planned rounds, unless the run resumes an earlier one. Refusals do not
    count as answers.

    Raises:
        SiteError: the bound is reached; the text says which.
    """
    exchanges, since = ExchangeLog(site.exchange_log), time.time() - DAY
    answered = exchanges.answers_since(since)[kind]
    most = getattr(site.settings.messages_a_day, _KEYS[kind])
    if most and answered >= most:
        raise SiteError(
            "too-many-messages",
            f"this site answers at most {most} messages of type {kind} within 24 hours, and has answered "
            f"{answered}; wait, or ask its people to raise {_KEYS[kind]} in [messages-a-day]",
        )
    limit = site.settings.consent.rounds_a_day
    if limit and kind in (protocol.QUERY, protocol.GATHER, protocol.TRAIN):
        done = exchanges.rounds_since(since)
        all_rounds = kind == protocol.QUERY and not config.resume
        more = config.gatherings + config.training_rounds if all_rounds else 1
        if done + more > limit:
            raise SiteError(
                "too-many-rounds",
                f"this site takes part in at most {limit} rounds of training or of sums "
                f"within 24 hours and has done {done}; the run asks for {more} more; lower rounds, or wait",
            )
