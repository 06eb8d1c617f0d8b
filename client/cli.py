"""``fedtransfer client``: a site of a real federation."""

import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from fedtransfer.client.deployment.settings import SETTINGS, SiteFolder
from fedtransfer.common.config.options import refuse_missing
from fedtransfer.common.errors import UserError

client = typer.Typer(
    no_args_is_help=True,
    help="Take part in a federation as a site: your images and your private key stay in your folder.",
    epilog="Start with: fedtransfer client init DIR …; docs/deploy.md walks through it.",
)

Dir = Annotated[Path, typer.Option("--dir", help="The site's folder.", envvar="FEDTRANSFER_SITE")]
Personal = Annotated[
    bool,
    typer.Option("--personal", help="Use the personal head that the site made from the result, if it did."),
]
HERE = Path(".")


@client.command()
def init(
    folder: Annotated[Path, typer.Argument(help="The folder to make.", metavar="DIR", show_default=False)],
    name: Annotated[str, typer.Option(help="The site's name.")],
    coordinator: Annotated[str, typer.Option(help="The coordinator's address.", metavar="HOST:PORT")],
    data: Annotated[
        Path,
        typer.Option(
            help="Images: class folders, a CSV manifest or an .npz archive; or ready-made features."
        ),
    ],
    ca: Annotated[
        Path | None, typer.Option(help="The coordinator's ca.crt (or put it into DIR later).")
    ] = None,
) -> None:
    """Make a site's folder: settings to edit, and keys. The coordinator gets the public key only.

    [bold]Example[/bold]

    fedtransfer client init site --name st-elsewhere --coordinator fed.example.org:9443 \\
        --ca ca.crt --data /data/images
    """
    from fedtransfer.client.deployment.founding import UNIT, found_site
    from fedtransfer.common.support.keys import fingerprint

    site = found_site(folder, name, coordinator, ca, data)
    public = site.public_key
    print(
        f"Made {site.folder}\n"
        f"  send to the coordinator's people: {public}\n"
        f"  and compare with them: {fingerprint(public.read_text('utf-8'))}\n"
        f"  never send: {site.key}\n"
        f"A systemd unit: {site.folder / UNIT}\n\n"
        f"Next: read and edit {site.folder / SETTINGS}\n"
        f"      fedtransfer client check --dir {folder}\n"
        f"      fedtransfer client start --dir {folder}"
    )


@client.command("new-key")
def new_key(
    folder: Dir = HERE,
    renew: Annotated[
        bool, typer.Option("--renew", help="The old key is good: it signs the new one, and nobody visits.")
    ] = False,
) -> None:
    """Make a new key pair after the old one was lost or revoked, or to --renew it.

    A renewal travels with the site's answers. The coordinator takes it up after the run, and the
    site goes on with the new key by itself.
    """
    from fedtransfer.client.deployment.founding import replace_key
    from fedtransfer.client.deployment.renewal import begin_renewal
    from fedtransfer.common.support.keys import fingerprint

    site = SiteFolder.open(folder)
    line = begin_renewal(site) if renew else replace_key(site)
    print(f"the new key: {fingerprint(line)}")
    if not renew:
        print(f"send to the coordinator's people, and compare the new key with them: {site.public_key}")


@client.command()
def roster(
    file: Annotated[
        Path | None, typer.Argument(help="A roster (default: the one in site.toml).", metavar="ROSTER.toml")
    ] = None,
    folder: Dir = HERE,
) -> None:
    """Show a roster's fingerprints: this site's, to tell the others, and theirs, to compare.

    With masks a site trusts the other sites not to reveal shared masks to the coordinator. Without
    a roster it also trusts the coordinator to say which key belongs to whom. With a roster the
    sites' people settle that:

    1. The coordinator makes a roster, and sends it to all: fedtransfer server roster > roster.toml

    2. The sites' people telephone each other, and compare the output of this command at both ends.

    3. Each puts the file into the site's folder, and into site.toml: roster = "roster.toml"
    """
    from fedtransfer.client.deployment.keys import load_keys
    from fedtransfer.common.support.keys import fingerprint, public_line, read_roster

    site = SiteFolder.open(folder)
    site_key = fingerprint(public_line(load_keys(site.key)[1]))
    path = file or site.roster
    if path is None:
        print(f"{site_key}  this site; it has no roster, see fedtransfer client roster --help")
        return
    sites = read_roster(path).sites
    for name, key in sorted(sites.items()):
        print(f"{key}  {name}{', this site' if key == site_key else ''}")
    if site_key not in sites.values():
        raise UserError(f"{path}: this site's key, {site_key}, is not on it: the others would refuse it")


@client.command()
def check(
    folder: Dir = HERE,
    quick: Annotated[bool, typer.Option("--quick", help="Do not decode every image.")] = False,
    json_output: Annotated[bool, typer.Option("--json", help="Print one JSON object a line.")] = False,
) -> None:
    """Check all that a site needs, one line each, with remedies.

    Exit status 1 after an error of the site, 3 if only the coordinator does not let it in: a site
    that is started then goes on trying.
    """
    from fedtransfer.client.deployment.preflight import check_site, exit_status
    from fedtransfer.common.support.text import printable

    signs, findings = {"ok": "ok     ", "warning": "warning", "error": "ERROR  "}, []
    for finding in check_site(SiteFolder.open(folder), images=not quick):
        findings.append(finding)
        if json_output:
            record = {"what": finding.subject, "level": finding.level, "text": finding.text}
            print(json.dumps(record, ensure_ascii=False), flush=True)
        else:
            print(f"{signs[finding.level]} {finding.subject:16} {printable(finding.text, 5000)}", flush=True)
    raise typer.Exit(exit_status(findings))


@client.command()
def prepare(
    config: Annotated[
        Path | None,
        typer.Argument(
            help="The federation's settings, if they name another backbone (TOML).", metavar="CONFIG"
        ),
    ] = None,
    folder: Dir = HERE,
) -> None:
    """Compute the features of all images now, so that the first round need not wait for them."""
    from fedtransfer.client.deployment.preparing import show_preparation

    show_preparation(SiteFolder.open(folder), config)


@client.command()
def start(
    folder: Dir = HERE,
    background: Annotated[bool, typer.Option("--background", help="Return once it is up.")] = False,
) -> None:
    """Check the site, then take part in federations until stopped."""
    from fedtransfer.client.deployment import start

    site = SiteFolder.open(folder)
    (start.start_in_background if background else start.check_and_run)(site)


@client.command()
def stop(folder: Dir = HERE) -> None:
    """Stop taking part."""
    from fedtransfer.common.support.processes import stop_running

    site = SiteFolder.open(folder)
    if not stop_running(site.state):
        raise UserError(f"{site.folder}: this site does not run")
    print("stopped")


@client.command()
def status(
    folder: Dir = HERE, json_output: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False
) -> None:
    """Show whether the site is connected, since when or why not, its work, and its results."""
    from fedtransfer.client.deployment.status import describe, status_lines

    report = describe(SiteFolder.open(folder))
    lines = [json.dumps(report, indent=2, ensure_ascii=False)] if json_output else status_lines(report)
    print("\n".join(lines))
    if not (report["connection"] and report["connection"]["up"]):
        raise typer.Exit(1)


@client.command()
def log(
    folder: Dir = HERE,
    lines: Annotated[int, typer.Option(help="How many messages.", min=1)] = 20,
    verify: Annotated[
        bool, typer.Option("--verify", help="Compare it with what the coordinator has of it, too.")
    ] = False,
) -> None:
    """Show which messages left the site: the end of its log. Exit status 1 if it was changed."""
    from fedtransfer.client.consent.countersignature import Countersignature
    from fedtransfer.client.deployment.status import log_lines

    site = SiteFolder.open(folder)
    print("\n".join(log_lines(site, lines, verify=verify)))
    if problems := Countersignature(site).problems():
        print("\n".join(problems), file=sys.stderr)
        raise typer.Exit(1)


@client.command()
def model(
    folder: Dir = HERE,
    out: Annotated[Path | None, typer.Option(help="Copy the model to this file.", metavar="FILE")] = None,
    personal: Personal = False,
) -> None:
    """Make the newest result a model, image to class probabilities. Needs no coordinator.

    It is a Keras model, or an ONNX model if the backbone is one or the run says --export onnx.
    """
    from fedtransfer.client.node import newest_result

    result = newest_result(SiteFolder.open(folder).results, personal=personal)
    print(result.copy_model(out) if out else result.model())


@client.command()
def predict(
    paths: Annotated[
        list[Path],
        typer.Argument(
            help="Images, folders of them, features files.", metavar="IMAGE_OR_FOLDER…", show_default=False
        ),
    ],
    folder: Dir = HERE,
    personal: Personal = False,
    csv_output: Annotated[bool, typer.Option("--csv", help="Print CSV.")] = False,
    json_output: Annotated[bool, typer.Option("--json", help="Print one JSON object per image.")] = False,
) -> None:
    """Classify images with the newest result. Needs no coordinator."""
    refuse_missing(paths)
    from fedtransfer.client.inference import show_predictions
    from fedtransfer.client.node import newest_result

    result = newest_result(SiteFolder.open(folder).results, personal=personal)
    if show_predictions(result.classifier(), paths, csv_output=csv_output, json_output=json_output):
        raise typer.Exit(1)


@client.command()
def evaluate(
    folder: Dir = HERE,
    split: Annotated[
        str, typer.Option(help="Which of the site's images: test, validation, train or all.")
    ] = "test",
    personal: Personal = False,
    json_output: Annotated[bool, typer.Option("--json", help="Print the scores as JSON.")] = False,
) -> None:
    """Score the newest result on the site's images, in the run's splits. Needs no coordinator."""
    from rich.console import Console

    from fedtransfer.client.inference import show_evaluation
    from fedtransfer.client.node import newest_result, split_images

    site = SiteFolder.open(folder)
    result = newest_result(site.results, personal=personal)
    images, problems = split_images(site, result.config, split)
    picture = result.path("confusion-matrix.png")
    show_evaluation(
        result.classifier(), images, split, problems, picture, Console(stderr=True), json_output=json_output
    )
