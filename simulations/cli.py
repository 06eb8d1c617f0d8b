"""The commands ``fedtransfer simulate``, ``predict``, ``evaluate`` and ``pretrain``."""

import json
import sys
import time
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from fedtransfer.common.config.config import PRESETS, resolve_config
from fedtransfer.common.config.options import refuse_missing, with_config_options
from fedtransfer.common.errors import UserError
from fedtransfer.common.support.text import counted

RunPath = Annotated[
    Path, typer.Argument(help="A run folder, or a model.keras.", metavar="RUN", show_default=False)
]


class Split(StrEnum):
    """Which images of a data set to score on."""

    all = "all"
    train = "train"
    validation = "validation"
    test = "test"


@with_config_options()
def simulate(
    config: Annotated[Path | None, typer.Option(
        "--config", help="TOML file of these settings, such as a run's config.toml.",
        metavar="FILE.toml")] = None,
    preset: Annotated[str, typer.Option(help=f"Start from a named recipe: {', '.join(PRESETS)}.")] = "",
    json_output: Annotated[bool, typer.Option(
        "--json", help="Print summary.json on standard output.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Replace the run folder if it is there.")] = False,
    resume: Annotated[Path | None, typer.Option(
        help="Go on with a run that was stopped, from its last checkpoint.", metavar="RUN")] = None,
    prepare: Annotated[Path | None, typer.Option(
        help="Only write settings and sites into a folder, for Flower's own `flwr run`.",
        metavar="DIR")] = None,
    *,
    settings: dict[str, Any],
) -> None:  # fmt: skip
    """Simulate a federation: sites fine-tune a head on a frozen backbone, a server averages heads.

    Without options: ten sites with unequal shares of the bundled demo images, 100 rounds, well
    under a minute.

    [bold]Examples[/bold]

    fedtransfer simulate --data my-images --sites 5

    fedtransfer simulate --data hospitals --partition natural

    fedtransfer simulate --config runs/NAME/config.toml --seed 1 --out runs/again

    fedtransfer simulate --resume runs/NAME
    """
    began = time.monotonic()
    if resume:
        from fedtransfer.simulations.federation import resumed_config

        others = {"--config": config, "--preset": preset, "--prepare": prepare, "--force": force}
        if wrong := [name for name, value in others.items() if value]:
            raise UserError(
                f"--resume goes on with a run under its own settings; leave out {', '.join(wrong)}"
            )
        resolved = resumed_config(resume, settings)
    else:
        resolved = resolve_config(preset=preset, file=config, overrides=settings)

    from rich.console import Console

    console = Console(stderr=True)
    if resolved.private:
        from fedtransfer.common.privacy.guarantee import guarantee

        guarantee(resolved)  # refuses a promise that cannot hold, before any work
    from fedtransfer.simulations import federation
    from fedtransfer.simulations.display import Display

    if prepare:
        sites = federation.prepare(resolved, prepare, force=force)
        console.print(f"{sites} sites prepared in {prepare}; run them with\n", highlight=False)
        print(
            f"flwr run . --run-config {prepare}/config.toml"
            f" --federation-config 'num-supernodes={sites} client-resources-num-cpus=1' --stream"
        )
        return

    display = Display(console)
    result = federation.simulate(resolved, display, force=force, began=began)
    if result.problems:
        display.print(f"\n{counted(len(result.problems), 'file')} left out:")
        for problem in result.problems[:20]:
            display.print(f"  {problem.path}: {problem.reason}")
        if len(result.problems) > 20:
            display.print(f"  … and {len(result.problems) - 20} more")
    display.summary(result.summary, result.baselines)
    seconds, features = result.summary["seconds"], result.summary["features"]
    display.print(
        f"{seconds['total']:.1f} s in all: features {seconds['features']:.1f} s"
        f" ({features['extracted']} extracted, {features['reused']} reused),"
        f" rounds {seconds['rounds']:.1f} s."
        f" A site sent {result.summary['bytes_up_per_site_round']:,} bytes a round."
    )
    folder = (
        result.folder.relative_to(Path.cwd()) if result.folder.is_relative_to(Path.cwd()) else result.folder
    )
    display.print(
        f"Run folder: {folder}\nClassify your own pictures: fedtransfer predict {folder} IMAGE_OR_FOLDER"
    )
    if json_output:
        json.dump(result.summary, sys.stdout, indent=2, ensure_ascii=False)
        print()


def predict(
    run: RunPath,
    paths: Annotated[list[Path], typer.Argument(
        help="Image files, folders of them, and features files.", metavar="IMAGE_OR_FOLDER…",
        show_default=False)],
    csv_output: Annotated[bool, typer.Option(
        "--csv", help="Print a CSV table: path, class, probability, then each class's.")] = False,
    json_output: Annotated[bool, typer.Option("--json", help="Print one JSON object an image.")] = False,
) -> None:  # fmt: skip
    """Classify pictures with the model of a finished run.

    [bold]Example[/bold]

    fedtransfer predict runs/NAME holiday.jpg photos/
    """
    from fedtransfer.client.inference import show_predictions
    from fedtransfer.common.head.model import load_model

    refuse_missing(paths)
    if show_predictions(load_model(run), paths, csv_output=csv_output, json_output=json_output):
        raise typer.Exit(1)


def evaluate(
    run: RunPath,
    data: Annotated[str, typer.Argument(
        help="Labelled images: class folders, a CSV manifest, an .npz, a features file or a named "
        "data set.",
        show_default=False)],
    split: Annotated[Split | None, typer.Option(
        help="Which images (default: test if the data or the run have a test split, else all).")] = None,
    json_output: Annotated[bool, typer.Option("--json", help="Print the scores as JSON.")] = False,
    picture: Annotated[Path | None, typer.Option(
        help="Where to draw the confusion matrix (default: confusion-matrix.png in the run folder).")] = None,
) -> None:  # fmt: skip
    """Score a finished run's model on labelled images.

    Prints accuracy and, for each class and on average, precision, recall (sensitivity), F1,
    specificity and AUROC.

    [bold]Example[/bold]

    fedtransfer evaluate runs/NAME my-test-images
    """
    from rich.console import Console

    from fedtransfer.client.inference import show_evaluation
    from fedtransfer.common.head.model import load_model
    from fedtransfer.simulations.scoring.evaluation import choose_images

    model = load_model(run)
    images, chosen, problems = choose_images(run, data, split.value if split else "", model.classes)
    path = picture or (run if run.is_dir() else run.parent) / "confusion-matrix.png"
    show_evaluation(model, images, chosen, problems, path, Console(stderr=True), json_output=json_output)


def pretrain(
    data: Annotated[Path, typer.Argument(
        help="Labelled images: class folders, a CSV manifest or an .npz archive.", show_default=False)],
    out: Annotated[Path, typer.Option(
        help="The backbone file to write; a card and feature statistics go next to it.",
    )] = Path("backbone.keras"),
    epochs: Annotated[int, typer.Option(help="Passes over the images.", min=1)] = 14,
    resolution: Annotated[int, typer.Option(
        help="Pixels a side; the first 4/7 of the epochs see three quarters of it.", min=32)] = 64,
    batch_size: Annotated[int, typer.Option(help="Images a step.", min=1)] = 256,
    learning_rate: Annotated[float, typer.Option(
        help="Peak rate, after a warm-up; then a cosine to zero.", min=0)] = 0.15,
    weight_decay: Annotated[float, typer.Option(
        help="Decoupled weight decay of the kernels.", min=0)] = 0.005,
    seed: Annotated[int, typer.Option(help="Seed of weights, order and augmentation.", min=0)] = 0,
) -> None:  # fmt: skip
    """Train a small ResNetV2 from scratch on labelled images, to be the backbone of federations.

    The images should be public, or images that the sites agreed on: a backbone remembers its
    training images. After an interruption, the same command goes on from the last whole epoch.

    [bold]Example[/bold]

    fedtransfer pretrain tiny-imagenet --out my-backbone.keras

    fedtransfer simulate --backbone my-backbone.keras
    """
    import os

    os.environ["FEDTRANSFER_THREADS_PER_OPERATION"] = "0"  # one large job, not many small ones
    print("Starting TensorFlow …", file=sys.stderr)
    from fedtransfer.simulations.pretraining import PretrainingRecipe
    from fedtransfer.simulations.pretraining import pretrain as run

    recipe = PretrainingRecipe(epochs, resolution, batch_size, learning_rate, weight_decay, seed=seed)
    backbone = run(data, out, recipe, lambda line: print(line, file=sys.stderr, flush=True))
    print(f"{out}: {backbone.features} features, fingerprint {backbone.fingerprint}")
