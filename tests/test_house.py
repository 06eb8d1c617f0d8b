"""The rules of the house: which folder may know which, and what must not be loaded early."""

import ast
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path

import forked
import pytest
from pictures import class_folders
from report_folders import run_folder
from small_onnx import network, saved

from fedtransfer.common.methods import METHODS

ROOT = Path(__file__).resolve().parents[1]
FOLDERS = ("common", "client", "server", "simulations", "fedtransfer")
FORBIDDEN = {
    "common": {"server", "client", "simulations", "cli"},
    "client": {"server", "simulations", "cli"},
    "server": {"client", "simulations", "cli"},
    "simulations": {"cli"},
}


@cache
def modules() -> dict[str, Path]:
    """Return the product's modules: name → file."""
    found = {}
    for folder in FOLDERS:
        for file in (ROOT / folder).rglob("*.py"):
            parts = file.relative_to(ROOT).with_suffix("").parts
            name = ".".join(parts if folder == "fedtransfer" else ("fedtransfer", *parts))
            found[name.removesuffix(".__init__")] = file
    return found


@cache
def nodes(file: Path) -> list[ast.AST]:
    """Return the nodes of a product file, of which several rules are."""
    return [*ast.walk(ast.parse(file.read_text("utf-8")))]


def statements(block: list[ast.stmt]) -> Iterator[ast.stmt]:
    """Yield statements and those in them: imports are found without a long look at expressions."""
    for statement in block:
        yield statement
        for part in ("body", "orelse", "finalbody"):
            yield from statements(getattr(statement, part, []))
        for part in ("handlers", "cases"):
            for branch in getattr(statement, part, []):
                yield from statements(branch.body)


@cache
def imports(file: Path) -> set[str]:
    """Return what a file imports, in functions too: modules, and the modules of other names."""
    names = set()
    for node in statements(ast.parse(file.read_text("utf-8")).body):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            full = (f"{node.module}.{alias.name}" for alias in node.names)
            names |= {name if name in modules() else node.module or "" for name in full}
    return names


@pytest.mark.parametrize("folder", FORBIDDEN)
def test_arrows_run_downwards_only(folder: str) -> None:
    for file in (ROOT / folder).rglob("*.py"):
        ours = {name.split(".")[1] for name in imports(file) if name.startswith("fedtransfer.")}
        assert not ours & FORBIDDEN[folder], file


def test_no_import_circle() -> None:
    """Of any length, imports inside functions and for types counted."""
    TopologicalSorter(
        {name: imports(file) & set(modules()) - {name} for name, file in modules().items()}
    ).prepare()


def test_folders_of_simulations_import_each_other_one_way_only() -> None:
    """No circle of folders, of any length: what two of them need is in a third below both."""
    arrows: dict[str, set[str]] = {}
    for name, file in modules().items():
        match name.split("."):
            case ["fedtransfer", "simulations", folder, _]:
                targets = (
                    target.split(".")
                    for target in imports(file)
                    if target.startswith("fedtransfer.simulations.")
                )
                arrows.setdefault(folder, set()).update(parts[2] for parts in targets if len(parts) == 4)
    TopologicalSorter({folder: targets - {folder} for folder, targets in arrows.items()}).prepare()


def test_no_product_code_patches_itself() -> None:
    assert not [
        name for name, file in modules().items() if any("unittest" in target for target in imports(file))
    ]


@pytest.mark.parametrize("folder", [*FOLDERS, "tests", "tools"])
def test_a_folder_is_imported_as_part_of_the_package_only(folder: str) -> None:
    for file in (ROOT / folder).rglob("*.py"):
        assert not {name.split(".")[0] for name in imports(file)} & {
            "common",
            "client",
            "server",
            "simulations",
        }, file


KNOWS_METHODS = ("fedtransfer.common.methods.", "fedtransfer.server.strategies")
NAMES_ONE = {
    "fedtransfer.common.config.settings.federation": {"fedavg"},  # the default
    "fedtransfer.simulations.benchmark.tables": {"fedavg"},  # what differences are to
}


def method_names(file: Path) -> set[str]:
    """Return the methods named in a file's texts, but for a config's ``strategy=NAME``."""
    made = {
        id(node.value) for node in nodes(file) if isinstance(node, ast.keyword) and node.arg == "strategy"
    }
    return {
        node.value for node in nodes(file) if isinstance(node, ast.Constant) and id(node) not in made
    } & set(METHODS)


def test_only_records_and_strategies_know_methods_by_name() -> None:
    """All other code reads the record, so a new method does not change it."""
    others = {name: file for name, file in modules().items() if not name.startswith(KNOWS_METHODS)}
    assert {name: found for name, file in others.items() if (found := method_names(file))} == NAMES_ONE


def test_tensorflow_is_imported_in_one_place() -> None:
    users = [name for name, file in modules().items() if {"tensorflow", "keras"} & imports(file)]
    assert users == ["fedtransfer.common.tensorflow"]


HEAVY = {"tensorflow", "keras", "flwr", "ray", "sklearn", "matplotlib", "jinja2"}
COMMANDS = """
import json, sys
import fedtransfer.cli

for line in sys.argv[1:]:
    sys.argv[1:], status = json.loads(line), 0
    try:
        fedtransfer.cli.main()
    except SystemExit as end:
        status = end.code or 0
    print()
    print("LOADED", json.dumps([status, sorted(name for name in sys.modules if "." not in name)]))
"""


def loaded_by(output: str) -> list[tuple[int, set[str]]]:
    """Return from COMMANDS' output each command's exit status, and the packages loaded after it."""
    lines = [
        json.loads(line.removeprefix("LOADED ")) for line in output.splitlines() if line.startswith("LOADED ")
    ]
    return [(status, set(names)) for status, names in lines]


@pytest.mark.process
def test_importing_the_package_and_asking_for_help_load_nothing_heavy() -> None:
    """In a cold process; other such tests run in a fork of one that has imported the package."""
    done = subprocess.run(
        [sys.executable, "-c", COMMANDS, '["--help"]'], capture_output=True, text=True, check=True, cwd=ROOT
    )
    [(status, loaded)] = loaded_by(done.stdout)
    assert (status, HEAVY & loaded) == (0, set())
    assert "fedtransfer" in loaded


@pytest.mark.process
def test_help_is_quick_because_it_loads_no_tensorflow() -> None:
    commands = [
        ["--help"],
        ["simulate", "--help"],
        ["predict", "--help"],
        ["evaluate", "-h"],
        ["features", "--help"],
        ["methods"],
        ["benchmark", "--help"],
        ["report", "--help"],
        ["runs", "--help"],
        ["privacy", "--dp", "image", "--epsilon", "2", "--strategy", "fed3r"],
        ["audit", "--help"],
        ["server", "--help"],
        ["server", "run", "--help"],
        ["client", "check", "--help"],
        ["--version"],
    ]
    done = forked.run("-c", COMMANDS, *map(json.dumps, commands), modules=forked.COMMAND_LINE, check=True)
    for command, (status, loaded) in zip(commands, loaded_by(done.stdout), strict=True):
        assert (status, HEAVY & loaded) == (0, set()), command


@pytest.mark.process
def test_asking_for_the_status_loads_no_tensorflow(tmp_path: Path) -> None:
    coordinator, site, images = (str(tmp_path / name) for name in ("coordinator", "site", "images"))
    Path(images).mkdir()
    commands = [
        ["server", "init", coordinator, "--host", "localhost"],
        ["client", "init", site, "--name", "north", "--coordinator", "localhost:1", "--data", images,
         "--ca", f"{coordinator}/certificates/ca.crt"],
        ["server", "enroll", f"{site}/site.pub", "--dir", coordinator],
        ["server", "status", "--dir", coordinator],
        ["client", "status", "--dir", site],
        ["client", "log", "--dir", site],
    ]  # fmt: skip
    done = forked.run("-c", COMMANDS, *map(json.dumps, commands), modules=forked.COMMAND_LINE, check=True)
    for command, (status, loaded) in zip(commands, loaded_by(done.stdout), strict=True):
        assert status == ("status" in command), (
            "neither coordinator nor site runs, which is what a status says"
        )
        assert not {"tensorflow", "keras", "sklearn", "matplotlib"} & loaded, command


@pytest.mark.process
def test_a_report_loads_no_tensorflow(tmp_path: Path) -> None:
    folder = run_folder(tmp_path / "run")
    done = forked.run(
        "-c", COMMANDS, json.dumps(["report", str(folder)]), modules=forked.COMMAND_LINE, check=True
    )
    [(status, loaded)] = loaded_by(done.stdout)
    assert (status, {"tensorflow", "keras"} & loaded) == (0, set())


DECLARED = ["--weighting", "uniform", "--classes", "declared", "--class-names", "blue,green,red"]


@pytest.mark.process
@pytest.mark.run
def test_runs_load_no_tensorflow_nor_does_what_uses_their_models(tmp_path: Path) -> None:
    """It is for convolutions, hidden layers, rarer optimizers, GPUs and new Keras files."""
    site, picture = str(class_folders(tmp_path / "data", 1)), str(next(tmp_path.glob("data/red/*.png")))
    settings = {
        "plain": [],
        "adam": ["--strategy", "fedopt", "--optimizer", "adam", "--dropout", "0.2", "--l2", "0.01"],
        "personal": ["--strategy", "scaffold", "--personal-epochs", "1"],
        "masked": ["--masks", "--optimizer", "momentum"],
        "private": ["--dp", "image", "--noise-multiplier", "1", "--public-data", site, *DECLARED],
        "private-sites": ["--dp", "site", "--noise-multiplier", "1", *DECLARED],
        "sums": ["--strategy", "fed3r"],
        "onnx": ["--backbone", saved(network(), tmp_path / "net.onnx"), "--resolution", "32"],
    }
    federation = ["simulate", "--data", site, "--sites", "3", "--partition", "iid", "--rounds", "2"]
    store = ["--store", str(tmp_path / "store")]
    commands = [
        [*federation, *store, "--out", str(tmp_path / name), *chosen] for name, chosen in settings.items()
    ]
    commands += [["predict", str(tmp_path / "plain"), picture], ["evaluate", str(tmp_path / "plain"), site]]
    commands += [["predict", str(tmp_path / "onnx" / "model.onnx"), picture]]
    done = forked.run("-c", COMMANDS, *map(json.dumps, commands), modules=forked.COMMAND_LINE, check=True)
    for command, (status, loaded) in zip(commands, loaded_by(done.stdout), strict=True):
        assert (status, {"tensorflow", "keras", "numba"} & loaded) == (0, set()), command
    assert (tmp_path / "plain" / "model.keras").is_file()


def test_no_module_has_grown_past_one_idea() -> None:
    long = {
        name: n for name, file in modules().items() if (n := len(file.read_text("utf-8").splitlines())) > 300
    }
    assert not long


LONGEST_SLEEP = 0.2


def sleeps(file: Path) -> Iterator[tuple[int, float]]:
    """Yield line and seconds of each sleep for a fixed time, in code and in code held as text."""
    text = file.read_text("utf-8")
    for node in ast.walk(ast.parse(text)) if "sleep(" in text else ():
        if isinstance(node, ast.Call) and getattr(node.func, "attr", getattr(node.func, "id", "")) == "sleep":
            known = ast.unparse(node.func) in ("time.sleep", "asyncio.sleep", "sleep")
            if known and node.args and isinstance(node.args[0], ast.Constant):
                yield node.lineno, node.args[0].value
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            for seconds in re.findall(r"\bsleep\(([\d.]+)\)", node.value):
                yield node.lineno, float(seconds)


def test_no_test_sleeps_for_long() -> None:
    """It waits for an event (waiting.wait_until); a child that only has to live, for a signal."""
    folder = ROOT / "tests"
    long = {
        str(file.relative_to(folder)): [f"line {line}: {seconds} s" for line, seconds in found]
        for file in folder.rglob("*.py")
        if (found := [(line, seconds) for line, seconds in sleeps(file) if seconds > LONGEST_SLEEP])
    }
    assert not long


# Participles, pronouns and prepositions: a reader of the field cannot guess what they mean.
RETIRED = {
    "told", "shown", "beside", "BESIDE", "asked", "kept", "mine", "own", "known", "made", "found", "drawn",
    "seen", "what", "Asked", "Asker", "Held", "Place",
}  # fmt: skip
ON_THE_WIRE = {"fedtransfer.common.wire.protocol": {"what"}}  # a message's field, whose name travels
RETIRED_MODULES = {
    "asking", "beside", "closing", "joining", "opening", "place", "shown", "standing", "totals", "trial",
    "words", "work",
}  # fmt: skip
# Plainer: again, next to, amounts to, because … is missing, is missing, the number of, is in.
PHRASES = ("anew", "[Bb]eside", "comes to", "[Ff]or want of", "(?<!there )is none", "[Ss]o many", "stands in")


def definitions(file: Path) -> Iterator[str]:
    """Yield all names that a module defines: of functions, arguments, attributes, aliases …"""
    for node in nodes(file):
        match node:
            case (
                ast.FunctionDef(name=name)
                | ast.ClassDef(name=name)
                | ast.arg(arg=name)
                | ast.alias(asname=str(name))
            ):
                yield name
            case ast.Name(id=name, ctx=ast.Store()) | ast.Attribute(attr=name, ctx=ast.Store()):
                yield name


def test_names_are_nouns_and_verbs_of_the_field() -> None:
    retired = {
        name: found
        for name, file in modules().items()
        if (found := RETIRED & {*definitions(file)} - ON_THE_WIRE.get(name, set()))
    }
    assert retired == {}


def test_modules_are_named_by_what_is_in_them() -> None:
    assert not [name for name in modules() if name.rsplit(".", 1)[-1] in RETIRED_MODULES]


def texts(file: Path) -> Iterator[str]:
    """Yield a module's comments, docstrings and other texts, each in one line."""
    yield from (line.partition("#")[2] for line in file.read_text("utf-8").splitlines())
    for node in nodes(file):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield " ".join(node.value.split())


def test_texts_are_in_plain_english() -> None:
    pattern = re.compile(rf"\b({'|'.join(PHRASES)})\b")
    assert {
        name: found for name, file in modules().items() if (found := pattern.findall("\n".join(texts(file))))
    } == {}
