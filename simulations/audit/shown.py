"""The findings of an audit for a person: a row a federation, a column an attack."""

import math
from collections.abc import Sequence

from rich.table import Table

from simulations.audit.tables import Finding

# Attack and measure, heading, and whether it is a share to be shown in percent.
_COLUMNS = (
    ("utility", "accuracy", "accuracy %", True),
    ("labels", "exact_share", "counts exact %", True),
    ("features", "cosine@1", "cosine, 1 image", False),
    ("images", "psnr", "image PSNR dB", False),
    ("LiRA online", "auc", "LiRA AUC", False),
    ("LiRA online", "tpr@1%", "TPR at 1 % FPR, %", True),
    ("one run", "epsilon_lower_bound", "ε at least", False),
)


def shown(findings: Sequence[Finding]) -> Table:
    """Lay the main findings out, a section for each number of images a class."""
    table = Table(
        title="What a curious server reads off round one, and what the head that comes out gives away",
        caption="counts: classes at a site whose number of images is read off exactly; cosine: to the features of a class' only image; "
        "PSNR: of images rebuilt from these; AUC 0.5 and TPR 1 % are guesses. — : cannot be said",
        title_style="bold",
        caption_style="dim",
    )
    for name in ("images a class", "federation", "protection", "ε"):
        table.add_column(name, no_wrap=name != "images a class")
    for *_, heading, _ in _COLUMNS:
        table.add_column(heading, justify="right")
    values = {(f.images_per_class, f.strategy, f.protection, f.attack, f.measure): f.value for f in findings}
    claims = {(f.images_per_class, f.strategy, f.protection): f.epsilon for f in findings}
    last: tuple[int, str] | None = None
    for (each, strategy, protection), claim in claims.items():
        if last and last != (each, strategy):
            table.add_section()
        cells = [
            values.get((each, strategy, protection, attack, measure), math.nan) for attack, measure, *_ in _COLUMNS
        ]
        table.add_row(
            str(each or ""), strategy, protection or "as it ran", "" if math.isnan(claim) else f"{claim:.3g}",
            *(_number(value, share) for value, (*_, share) in zip(cells, _COLUMNS, strict=True)),
        )  # fmt: skip
        last = each, strategy
    return table


def _number(value: float, share: bool) -> str:
    if math.isnan(value):
        return "—"
    return f"{100 * value:.1f}" if share else f"{value:.2f}"
