"""``fedtransfer features``: show, verify and prune the store; export features and statistics."""

import json
from pathlib import Path
from typing import Annotated

import typer

from fedtransfer.common.config.config import BUNDLED
from fedtransfer.common.errors import UserError
from fedtransfer.common.features.store import StoreReport, default_store, prune_store, survey_store
from fedtransfer.common.support.text import counted

features = typer.Typer(
    no_args_is_help=True,
    help="Show, verify and prune the feature store (each image passes through a backbone only once), "
    "export features, and make public statistics of them.",
)

StorePath = Annotated[
    Path | None,
    typer.Option("--store", help="Folder of the feature store (default: ~/.cache/fedtransfer/features)."),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@features.command()
def show(store: StorePath = None, json_output: Json = False) -> None:
    """List backbones with their images, shards, size and last use."""
    _print(survey_store(store or default_store(), verify=False), store, json_output)


@features.command()
def verify(store: StorePath = None, json_output: Json = False) -> None:
    """Check every shard against its checksum; exit status 1 if one is damaged."""
    reports = survey_store(store or default_store(), verify=True)
    _print(reports, store, json_output)
    if any(report.damaged for report in reports):
        raise typer.Exit(1)


@features.command()
def prune(
    store: StorePath = None,
    backbone: Annotated[
        str, typer.Option(help="Also remove all features of backbones whose folder name contains this.")
    ] = "",
    unused_days: Annotated[
        int, typer.Option(help="Also remove backbones not read for this number of days (0: none).", min=0)
    ] = 0,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only list what would be removed.")] = False,
) -> None:
    """Remove damaged shards and leftovers of killed runs; with options, whole backbones."""
    removed = prune_store(
        store or default_store(), backbone=backbone, unused_days=unused_days, dry_run=dry_run
    )
    for path, size in removed:
        print(f"{'would remove' if dry_run else 'removed'} {path} ({size:,} bytes)")
    size = sum(size for _, size in removed)
    print(f"{counted(len(removed), 'file')}, {size:,} bytes {'to remove' if dry_run else 'removed'}")


@features.command()
def statistics(
    images: Annotated[
        Path,
        typer.Argument(
            help="Public images, of no site: a folder of class folders, a CSV manifest or an .npz archive."
        ),
    ],
    out: Annotated[Path, typer.Option(help="File to write (.npz), for --feature-statistics.")],
    backbone: Annotated[str, typer.Option(help="The backbone, as in a run.")] = BUNDLED,
    weights: Annotated[str, typer.Option(help="Its weights, as in a run.")] = "",
    resolution: Annotated[
        int, typer.Option(help="Pixels per side, as in a run (0: the backbone's own).")
    ] = 0,
    preprocessing: Annotated[str, typer.Option(help="How the weights expect pixels, as in a run.")] = "auto",
    store: StorePath = None,
) -> None:
    """Write mean, deviation and principal axes of public images' features.

    They are for --standardise public and --project pca.
    """
    from rich.console import Console

    from fedtransfer.common.config.config import resolve_config
    from fedtransfer.common.data.sources import read_source
    from fedtransfer.common.support.terminal import progress_bar

    if out.suffix != ".npz":
        raise UserError(f"--out {out}: expected a file name that ends in .npz")
    if out.exists():
        raise UserError(f"--out {out} already exists; choose another name, or remove it")
    settings = {"backbone": backbone, "weights": weights, "resolution": resolution}
    settings |= {"preprocessing": preprocessing, "store": str(store or "")}
    config = resolve_config(overrides=settings)
    source = read_source(images)
    console = Console(stderr=True)
    from fedtransfer.common.backbone.backbone import configured_backbone
    from fedtransfer.common.backbone.public_statistics import write_statistics
    from fedtransfer.common.features.extraction import extract, open_store

    network = configured_backbone(config)
    features = open_store(network, config.store)
    with progress_bar(console, "Features", "images") as progress:
        extraction = extract(features, network, source.images, progress=progress)
    keys = sorted({key for key in extraction.keys if key})
    if len(keys) < 2:
        raise UserError(
            f"{images}: {counted(len(keys), 'readable image')}; "
            "expected at least two different ones: name other images"
        )
    write_statistics(out, features.read(keys), network.identity, network.resolution)
    print(
        f"{out}: {len(keys):,} images, {network.features} features of {network.name} "
        f"at {network.resolution} px"
    )
    if extraction.problems:
        print(f"left out: {counted(len(extraction.problems), 'unreadable image')}")
    if len(keys) <= network.features:
        print(
            f"only the first {counted(len(keys) - 1, 'axis', 'axes')} of {network.features} have variance; "
            "all have it with more images than features"
        )


@features.command()
def export(
    images: Annotated[
        Path,
        typer.Argument(help="Labelled images: a folder of class folders, a CSV manifest or an .npz archive."),
    ],
    out: Annotated[Path, typer.Option(help="File to write: .npz, .h5, .parquet or .csv.")],
    config: Annotated[
        Path | None, typer.Option(help="The federation's settings (TOML), such as a run's config.toml.")
    ] = None,
    splits: Annotated[
        bool, typer.Option("--splits", help="Also write on which side of its splits a run has each image.")
    ] = False,
    backbone: Annotated[str, typer.Option(help="The backbone, as in a run.")] = "",
    weights: Annotated[str, typer.Option(help="Its weights, as in a run.")] = "",
    resolution: Annotated[int, typer.Option(help="Pixels per side, as in a run.")] = 0,
    preprocessing: Annotated[str, typer.Option(help="How the weights expect pixels, as in a run.")] = "",
    fit: Annotated[str, typer.Option(help="How images are fitted to the square, as in a run.")] = "",
    store: StorePath = None,
) -> None:
    """Write the features of images to a file: a row an image, with id, label and what made them.

    Another site, or a run, takes the file as --data.

    [bold]Example[/bold]

    fedtransfer features export my-images --out features.parquet
    """
    from rich.console import Console

    from fedtransfer.client.features_export import export_features
    from fedtransfer.common.config.config import resolve_config
    from fedtransfer.common.support.terminal import progress_bar

    settings = {
        "backbone": backbone, "weights": weights, "resolution": resolution, "preprocessing": preprocessing,
        "fit": fit, "store": str(store or ""),
    }  # fmt: skip
    resolved = resolve_config(file=config, overrides={key: value for key, value in settings.items() if value})
    if out.exists():
        raise UserError(f"--out {out} already exists; choose another name, or remove it")
    with progress_bar(Console(stderr=True), "Features", "images") as progress:
        card, problems = export_features(images, out, resolved, splits=splits, progress=progress)
    print(f"{out}: {counted(card.rows, 'row')}, features of {card}")
    for problem in problems:
        print(f"left out {problem.path}: {problem.reason}")


def _print(reports: list[StoreReport], store: Path | None, json_output: bool) -> None:
    if json_output:
        print(json.dumps([{**vars(report), "path": str(report.path)} for report in reports], indent=2))
        return
    from rich.table import Table

    from fedtransfer.common.support.terminal import table_console

    table = Table(title=f"Feature store {store or default_store()}", caption=None if reports else "empty")
    table.add_column("backbone, resolution, fingerprint")
    for name in ("images", "shards", "MB", "last used", "damaged", "left over"):
        table.add_column(name, justify="right")
    for report in reports:
        megabytes = f"{report.bytes / 1e6:.1f}"
        numbers = (f"{report.images:,}", str(report.shards), megabytes, report.last_used, str(report.damaged))
        table.add_row(report.path.name, *numbers, str(report.leftovers))
    table_console().print(table)
