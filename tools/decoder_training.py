"""Training of the decoder that ``fedtransfer.simulations.audit.decoder`` loads.

``python tools/decoder_training.py DATA --out FILE``.

DATA is all of CIFAR-10: ``cifar10``, or an archive with x_train, y_train, x_test and y_test. The
decoder trains on training images whose SHA-256 begins with a byte below 200, without the demo
images and without copies of test images. The rest is for federations under audit: a fifth of the
training images, the test images and the demo.

Every step draws images, flips and shifts them by up to three pixels, and computes their features:
2.4 million in 4,600 steps. This takes minutes on a GPU, and many hours on a CPU.
"""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from numpy.typing import NDArray

from fedtransfer.client.training.trainer import Features
from fedtransfer.common.backbone.backbone import Backbone, configured_backbone
from fedtransfer.common.config.config import RunConfig
from fedtransfer.common.data.images import content_key, decode
from fedtransfer.common.data.sources import Source, read_source
from fedtransfer.common.errors import UserError
from fedtransfer.common.features.feature_map import feature_map
from fedtransfer.common.seeds import generator
from fedtransfer.common.tensorflow import GPUS, keras, tf
from fedtransfer.simulations.audit.decoder import SIDE, TRAINING, WIDTHS, Pictures, build_decoder, demo_keys
from fedtransfer.simulations.data.datasets import resolve_data

_SHIFT = 3  # pixels
_RATE, _DECAY, _WARMUP = 2e-3, 0.02, 300  # of AdamW; steps
_SSIM = 0.1  # weight of 1 - SSIM, added to 4 times the mean squared error of values in 0 to 1
_REPORTED = 50  # steps


def main(
    data: Annotated[str, typer.Argument(help="CIFAR-10: its name, or an .npz archive.")],
    out: Annotated[Path, typer.Option(help="File to write, .npz.")],
    steps: Annotated[int, typer.Option(help="Steps of training.")] = 4600,
    batch: Annotated[int, typer.Option(help="Images a step.")] = 512,
) -> None:
    """Train a decoder for the bundled backbone on public images of CIFAR-10."""
    source = read_source(resolve_data(data))
    images, labels = public_images(source)
    backbone = configured_backbone(RunConfig())
    typer.echo(f"{len(images)} public images of {len(source.classes)} classes")
    network = train_decoder(
        images, backbone, steps, batch, lambda step, loss: typer.echo(f"step {step}: loss {loss:.4f}")
    )
    save_decoder(out, network, backbone, images, labels, source.classes)


def public_images(source: Source) -> tuple[Pictures, NDArray[np.int64]]:
    """Return the images for training (n, 32, 32, 3), and their class numbers (n,).

    Raises:
        UserError: there are no such images, or an image is not of 32 x 32 pixels.
    """
    supplied = {split: [i for i in source.images if i.split.startswith(split)] for split in ("test", "")}
    reserved = demo_keys() | {content_key(decode(image.read())) for image in supplied["test"]}
    images, labels = [], []
    for image in supplied[""]:
        pixels = decode(image.read())
        if pixels.shape != (SIDE, SIDE, 3):
            raise UserError(
                f"{image.path}: an image of {pixels.shape[1]} x {pixels.shape[0]}; expected {SIDE} x {SIDE}"
            )
        key = content_key(pixels)
        if image.split != "test" and key[0] < TRAINING and key not in reserved:
            images.append(pixels)
            labels.append(source.classes.index(image.label))
    if not images:
        raise UserError(
            f"none of the {len(source.images)} images may be trained on; expected all of CIFAR-10"
        )
    return np.stack(images), np.array(labels)


def train_decoder(
    images: Pictures,
    backbone: Backbone,
    steps: int,
    batch: int,
    report: Callable[[int, float], None],
    widths: tuple[int, ...] = WIDTHS,
    seed: int = 0,
) -> Any:
    """Return a decoder, a Keras model, trained by AdamW; its weights are moving means.

    Args:
        images: the training images (n, 32, 32, 3).
        backbone: the network whose features it inverts.
        steps: number of training steps.
        batch: images a step.
        report: takes step and mean loss, every 50 steps.
        widths: as in ``build_decoder``.
        seed: the seed of weights and draws.
    """
    keras.utils.set_random_seed(seed)
    network = build_decoder(backbone.features, widths)
    warmup = min(_WARMUP, max(1, steps // 10))
    schedule = keras.optimizers.schedules.CosineDecay(
        0.0, max(1, steps - warmup), warmup_target=_RATE, warmup_steps=warmup
    )
    optimizer = keras.optimizers.AdamW(
        schedule,
        weight_decay=_DECAY,
        beta_2=0.99,
        global_clipnorm=1.0,
        use_ema=True,
        ema_momentum=min(0.999, 1 - 5 / steps),
    )
    network.compile(optimizer, _loss, jit_compile=bool(GPUS))  # on a CPU compiling takes longer than it saves
    losses: list[float] = []
    for step, (features, pictures) in enumerate(_batches(images, backbone, steps, batch, seed), 1):
        network.reset_metrics()
        losses.append(float(network.train_on_batch(features, pictures)))
        if step % _REPORTED == 0 or step == steps:
            report(step, float(np.mean(losses)))
            losses.clear()
    optimizer.finalize_variable_values(network.trainable_variables)
    return network


def save_decoder(
    path: Path,
    network: Any,
    backbone: Backbone,
    images: Pictures,
    labels: NDArray[np.int64],
    classes: tuple[str, ...],
) -> None:
    """Write a decoder's weights (float16), its backbone's identity and the classes' mean images."""
    means = [
        images[labels == c].mean(0) if (labels == c).any() else images.mean(0) for c in range(len(classes))
    ]
    np.savez_compressed(
        path,
        backbone=np.array(backbone.identity),
        resolution=np.array(backbone.resolution),
        classes=np.array(classes),
        class_means=np.rint(means).astype(np.uint8),
        **{weight.path: weight.numpy().astype(np.float16) for weight in network.weights},
    )


def _loss(images: Any, decoded: Any) -> Any:
    similarity = tf.reduce_mean(tf.image.ssim(images, decoded, 1.0))
    return 4 * tf.reduce_mean(tf.square(images - decoded)) + _SSIM * (1 - similarity)


def _batches(
    images: Pictures, backbone: Backbone, steps: int, batch: int, seed: int
) -> Iterator[tuple[Features, NDArray[np.float32]]]:
    """Yield features (b, d) and images (b, 32, 32, 3) in 0 to 1, flipped and shifted at random."""
    mapped, compute = feature_map(RunConfig(), backbone), backbone.extractor(batch)
    for step in range(steps):
        rng = generator(seed, "decoder", step)
        sample = images[rng.integers(len(images), size=batch)]
        flips = rng.random(batch) < 0.5
        sample[flips] = sample[flips, :, ::-1]
        padded = np.pad(sample, ((0, 0), (_SHIFT, _SHIFT), (_SHIFT, _SHIFT), (0, 0)), "edge")
        at = rng.integers(2 * _SHIFT + 1, size=(batch, 2))
        views = np.stack([p[y : y + SIDE, x : x + SIDE] for p, (y, x) in zip(padded, at, strict=True)])
        yield mapped(compute(backbone.resize(views))), views.astype(np.float32) / np.float32(255)


if __name__ == "__main__":
    typer.run(main)
