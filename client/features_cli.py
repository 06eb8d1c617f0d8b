"""``fedtransfer features``: look after the feature store of this machine."""

import json
from pathlib import Path
from typing import Annotated

import typer

from fedtransfer.common.config.config import BUNDLED
from fedtransfer.common.errors import UserError
from fedtransfer.common.features.housekeeping import StoreReport, prune_store, survey_store
from fedtransfer.common.features.store import default_store

features = typer.Typer(
    no_args_is_help=True,
    help="Show, verify and prune the feature store (each image passes through a backbone once, ever), and make public"
    " statistics of features.",
)

StorePath = Annotated[
    Path | None, typer.Option("--store", help="Folder of the feature store (default: ~/.cache/fedtransfer/features).")
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
        int, typer.Option(help="Also remove backbones not read for so many days (0: none).", min=0)
    ] = 0,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be removed.")] = False,
) -> None:
    """Remove damaged shards and what killed runs left behind; with options, whole backbones."""
    removed = prune_store(store or default_store(), backbone=backbone, unused_days=unused_days, dry_run=dry_run)
    for path, size in removed:
        print(f"{'would remove' if dry_run else 'removed'} {path} ({size:,} bytes)")
    print(f"{len(removed)} files, {sum(size for _, size in removed):,} bytes {'to remove' if dry_run else 'removed'}")


@features.command()
def statistics(
    images: Annotated[
        Path,
        typer.Argument(help="Public images, of no site: a folder of class folders, a CSV manifest or an .npz archive."),
    ],
    out: Annotated[Path, typer.Option(help="File to write (.npz), for --feature-statistics.")],
    backbone: Annotated[str, typer.Option(help="The backbone, as in a run.")] = BUNDLED,
    weights: Annotated[str, typer.Option(help="Its weights, as in a run.")] = "",
    resolution: Annotated[int, typer.Option(help="Pixels a side, as in a run (0: the backbone's own).")] = 0,
    preprocessing: Annotated[str, typer.Option(help="How the weights expect pixels, as in a run.")] = "auto",
    store: StorePath = None,
) -> None:
    """Write mean, deviation and principal axes of public images' features, for --standardise public and --project pca."""
    from rich.console import Console

    from fedtransfer.common.config.reading import resolve_config
    from fedtransfer.common.data.sources import read_source
    from fedtransfer.common.support.terminal import progress_bar

    if out.suffix != ".npz":
        raise UserError(f"--out {out}: expected a file name that ends in .npz")
    if out.exists():
        raise UserError(f"--out {out} already exists; choose another name, or remove it")
    settings = {"backbone": backbone, "weights": weights, "resolution": resolution, "preprocessing": preprocessing}
    config = resolve_config(overrides=settings | {"store": str(store or "")})
    source = read_source(images)
    console = Console(stderr=True)
    console.print("Starting TensorFlow …", style="dim")
    from fedtransfer.common.backbone.backbone import configured_backbone
    from fedtransfer.common.backbone.public_statistics import write_statistics
    from fedtransfer.common.features.extraction import extract, open_store

    network = configured_backbone(config)
    features = open_store(network, config.store)
    with progress_bar(console, "Features", "images") as progress:
        extraction = extract(features, network, source.images, progress=progress)
    keys = sorted({key for key in extraction.keys if key})
    if len(keys) < 2:
        raise UserError(f"{images}: {len(keys)} images that can be read; expected two or more different ones")
    write_statistics(out, features.read(keys), network.identity, network.resolution)
    print(f"{out}: {len(keys):,} images, {network.features} features of {network.name} at {network.resolution} px")
    if extraction.problems:
        print(f"{len(extraction.problems)} images cannot be read and are left out")
    if len(keys) <= network.features:
        print(f"only the first {len(keys) - 1} axes have variance behind them; more images than features give all")


def _print(reports: list[StoreReport], store: Path | None, json_output: bool) -> None:
    if json_output:
        print(json.dumps([{**vars(report), "path": str(report.path)} for report in reports], indent=2))
        return
    from rich.table import Table

    from fedtransfer.common.support.terminal import table_console

    table = Table(title=f"Feature store {store or default_store()}", caption=None if reports else "empty")
    for name in ("backbone, resolution, fingerprint", "images", "shards", "MB", "last used", "damaged", "left over"):
        table.add_column(name, justify="left" if name.startswith("backbone") else "right")
    for r in reports:
        table.add_row(
            r.path.name,
            f"{r.images:,}",
            str(r.shards),
            f"{r.bytes / 1e6:.1f}",
            r.last_used,
            str(r.damaged),
            str(r.leftovers),
        )
    table_console().print(table)
