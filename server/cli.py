"""``fedtransfer server``: coordinate a federation of real sites."""

import json
import sys
import time
from pathlib import Path
from typing import Annotated, Any

import typer

from fedtransfer.common.config.options import with_config_options
from fedtransfer.common.errors import UserError
from fedtransfer.common.support.keys import roster_text
from fedtransfer.common.support.processes import last_lines, start_in_background, stop_running
from fedtransfer.common.support.terminal import print_with_time
from fedtransfer.server.deployment import OF_SIMULATIONS
from fedtransfer.server.deployment.coordinator import Coordinator

server = typer.Typer(
    no_args_is_help=True,
    help="Coordinate a federation of real sites: certificates, enrolment, runs.",
    epilog="Start with: fedtransfer server init DIR --host NAME; docs/deploy.md walks through it.",
)

Dir = Annotated[
    Path, typer.Option("--dir", help="The coordinator's folder.", envvar="FEDTRANSFER_COORDINATOR")
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
HERE = Path(".")


def _port(text: str) -> Any:
    return typer.Option(help=text, min=1, max=65535)


@server.command()
def init(
    folder: Annotated[Path, typer.Argument(help="The folder to make.", metavar="DIR", show_default=False)],
    host: Annotated[
        list[str], typer.Option(help="A name or address by which sites reach this machine (repeatable).")
    ],
    port: Annotated[int, _port("Port on which nginx listens for sites.")] = 9443,
    superlink_port: Annotated[int, _port("Port of Flower's SuperLink, on this machine only.")] = 9092,
    health_port: Annotated[int, _port("Port of its health service, on this machine only.")] = 9093,
    user: Annotated[str, typer.Option(help="System user of the systemd unit (default: you).")] = "",
) -> None:
    """Make a coordinator's folder: authority, certificate, settings, nginx.conf, systemd units.

    [bold]Example[/bold]

    fedtransfer server init federation --host fed.example.org
    """
    from fedtransfer.server.deployment.certificates import read_certificate
    from fedtransfer.server.deployment.founding import GATEWAY_UNIT, UNIT, found_coordinator

    ports = {"port": port, "superlink_port": superlink_port, "health_port": health_port}
    coordinator = found_coordinator(folder, host, **ports, user=user)
    authority = read_certificate(coordinator.certificates / "ca.crt")
    certificate = read_certificate(coordinator.certificates / "server.crt")
    print(
        f"Made {coordinator.folder}\n"
        f"  authority: {authority.path}, until {authority.not_after:%Y-%m-%d}; every site needs this file\n"
        f"             SHA-256 {authority.sha256}\n"
        f"  its key: {coordinator.authority_key.resolve()}; keep it offline: only server renew needs it\n"
        f"  server certificate for {', '.join(certificate.hosts)}, until {certificate.not_after:%Y-%m-%d}\n\n"
        f"Sites on other machines connect to {host[0]}:{port}, where nginx listens once you start it:\n"
        f"  nginx -e stderr -c {coordinator.folder}/nginx.conf\n"
        f"Sites on this machine connect to localhost:{superlink_port}.\n"
        f"Units for systemd, there: {UNIT}, {GATEWAY_UNIT}\n\n"
        f"Next: fedtransfer server enroll SITE.pub --dir {folder}\n"
        f"      fedtransfer server start --dir {folder}\n"
        f"      fedtransfer server run --dir {folder}"
    )


@server.command()
def enroll(
    key: Annotated[
        Path, typer.Argument(help="The site's public key.", metavar="SITE.pub", show_default=False)
    ],
    name: Annotated[str, typer.Option(help="The site's name (default: the one in the key file).")] = "",
    folder: Dir = HERE,
) -> None:
    """Enrol a site by its public key."""
    from fedtransfer.server.deployment.enrolment import enrol
    from fedtransfer.server.deployment.status import wait_until_accepted

    site = enrol(coordinator := Coordinator.open(folder), key, name)
    print(f"enrolled {site.name}; compare this fingerprint with the site's people: {site.fingerprint}")
    if not wait_until_accepted(coordinator, [site.name]):
        print("the running coordinator has not taken it up yet; see fedtransfer server status")


@server.command()
def revoke(
    name: Annotated[str, typer.Argument(help="The site's name.", show_default=False)], folder: Dir = HERE
) -> None:
    """Revoke a site's enrolment; if it is connected, it is cut off within seconds."""
    from fedtransfer.server.deployment import enrolment

    enrolment.revoke(Coordinator.open(folder), name)
    print(f"revoked {name}; its key cannot be enrolled again")


@server.command()
def sites(folder: Dir = HERE, json_output: Json = False) -> None:
    """List the enrolled sites with their keys' fingerprints, and whether they are connected."""
    from fedtransfer.server.deployment.status import describe

    enrolment = describe(Coordinator.open(folder))["sites"]
    if json_output:
        print(json.dumps(enrolment, indent=2))
        return
    for site in enrolment:
        print(f"{site['name']:24} {site['status']:11} {site['key']}")


@server.command()
def roster(folder: Dir = HERE) -> None:
    """Print the enrolled sites' roster, for them to compare: fedtransfer client roster --help."""
    from fedtransfer.server.deployment.enrolment import enrolled_sites

    print(
        roster_text({site.name: site.fingerprint for site in enrolled_sites(Coordinator.open(folder))}),
        end="",
    )


@server.command()
def renew(
    host: Annotated[
        list[str] | None, typer.Option(help="A further name or address of this machine (repeatable).")
    ] = None,
    authority: Annotated[
        bool, typer.Option("--authority", help="Renew the authority's certificate too.")
    ] = False,
    folder: Dir = HERE,
) -> None:
    """Renew the server's certificate (397 days), or authority's (ten years); --host adds names."""
    from fedtransfer.server.deployment import founding
    from fedtransfer.server.deployment.certificates import read_certificate

    coordinator = founding.renew(Coordinator.open(folder), host or [], authority=authority)
    if authority:
        print("give every site the new ca.crt before the old one expires")
    certificate = read_certificate(coordinator.certificates / "server.crt")
    print(
        f"server certificate for {', '.join(certificate.hosts)}, until {certificate.not_after:%Y-%m-%d}; "
        "nginx uses it at once if the coordinator runs, SuperLink as soon as no run is going on"
    )


@server.command()
def start(
    background: Annotated[
        bool, typer.Option("--background", help="Return once it serves; it goes on.")
    ] = False,
    folder: Dir = HERE,
) -> None:
    """Start coordinating: SuperLink, enrolment, and the run in progress, if there is one.

    Keeps running, and restarts processes that die; a run goes on from its last checkpoint.
    """
    from fedtransfer.server.deployment.status import describe
    from fedtransfer.server.deployment.supervisor import supervise

    coordinator = Coordinator.open(folder)
    if background:
        command = [sys.executable, "-P", "-m", "fedtransfer", "server", "start", "--dir"]
        command.append(str(coordinator.folder))
        log, serving = coordinator.state / "supervisor.log", lambda: describe(coordinator)["serving"]
        start_in_background("the coordinator", command, log, serving, print_with_time)
        print(f"the coordinator serves; its log: {log}")
        return
    supervise(coordinator, print_with_time)


@server.command()
@with_config_options(OF_SIMULATIONS | {"log_json"})
def run(
    config: Annotated[
        Path | None,
        typer.Argument(
            help="TOML file of settings (default: federation.toml in the folder, if there).", metavar="CONFIG"
        ),
    ] = None,
    name: Annotated[str, typer.Option(help="Name of the run folder (default: date and time).")] = "",
    resume: Annotated[
        str, typer.Option(help="Go on with a run that was stopped or failed.", metavar="NAME")
    ] = "",
    detach: Annotated[
        bool, typer.Option("--detach", help="Return at once; the run goes on without you.")
    ] = False,
    folder: Dir = HERE,
    *,
    settings: dict[str, Any],
) -> None:
    """Run a federation of the enrolled sites, and show its progress.

    Ctrl-C ends the display only: the run goes on (end it with: fedtransfer server stop --run).

    [bold]Example[/bold]

    fedtransfer server run --rounds 50 --strategy fedprox
    """
    from fedtransfer.server.deployment.current import request_run, resume_run
    from fedtransfer.server.deployment.display import follow_run

    coordinator = Coordinator.open(folder)
    if resume and (settings or config or name):
        raise UserError("--resume goes on with a run's own settings; leave the others out")
    current = resume_run(coordinator, resume) if resume else request_run(coordinator, config, settings, name)
    print(f"run {current.name}: {current.folder}")
    if not detach:
        raise typer.Exit(follow_run(coordinator, current.folder))


@server.command()
def status(folder: Dir = HERE, json_output: Json = False) -> None:
    """Show which sites are connected, since when, and the run in progress."""
    from fedtransfer.server.deployment.status import describe, status_lines

    report = describe(Coordinator.open(folder))
    lines = [json.dumps(report, indent=2, ensure_ascii=False)] if json_output else status_lines(report)
    print("\n".join(lines))
    if not report["serving"]:
        raise typer.Exit(1)


@server.command()
def logs(
    superlink: Annotated[
        bool, typer.Option("--superlink", help="Flower's SuperLink log instead of the run's.")
    ] = False,
    lines: Annotated[int, typer.Option(help="How many lines.", min=1)] = 50,
    folder: Dir = HERE,
) -> None:
    """Show the last events of the run, or the last lines of SuperLink's log."""
    from fedtransfer.server.deployment.current import read_current
    from fedtransfer.server.deployment.status import event_line, events

    coordinator = Coordinator.open(folder)
    current = read_current(coordinator)
    if superlink:
        print(last_lines(coordinator.state / "superlink.log", lines))
    elif current:
        for event in events(current.folder)[-lines:]:
            print(time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(event["time"])), event_line(event))
    else:
        print("no run yet: fedtransfer server run")


@server.command("audit-log")
def audit_log(
    lines: Annotated[int, typer.Option(help="How many lines.", min=1)] = 50,
    answers: Annotated[
        bool, typer.Option("--answers", help="Also which lines of their logs the sites' answers named.")
    ] = False,
    folder: Dir = HERE,
) -> None:
    """Show what the coordinator did, and for whom. Exit status 1 if a line of it was changed."""
    from fedtransfer.server.deployment.audit_log import audit_log as chain_of
    from fedtransfer.server.deployment.audit_log import log_lines

    coordinator = Coordinator.open(folder)
    print("\n".join(log_lines(coordinator, lines, answers=answers)))
    if position := chain_of(coordinator).first_break():
        print(f"line {position} does not follow from the line before; was the file changed?", file=sys.stderr)
        raise typer.Exit(1)


@server.command()
def stop(
    run: Annotated[bool, typer.Option("--run", help="Only the run in progress.")] = False, folder: Dir = HERE
) -> None:
    """Stop the coordinator; a run goes on at the next start. --run ends only the run, for good."""
    from fedtransfer.server.deployment.current import end_run

    coordinator = Coordinator.open(folder)
    if run:
        print(end_run(coordinator))
        return
    if not stop_running(coordinator.state):
        raise UserError(f"{coordinator.folder}: the coordinator does not run")
    print("stopped")
