"""Pretraining of a backbone: the small ResNetV2, trained from scratch on labelled images.

The recipe is that of the bundled weights: SGD with Nesterov momentum, decoupled weight decay on
kernels, label smoothing, random resized crops and flips, a warm-up, then a cosine. The first 4/7 of
the epochs train at three quarters of the resolution.
"""

import json
import math
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedtransfer.common.backbone.backbone import Backbone, load_backbone
from fedtransfer.common.backbone.networks import small_resnet
from fedtransfer.common.data.images import Image, content_key, decode, split_of
from fedtransfer.common.data.sources import read_source
from fedtransfer.common.errors import UserError
from fedtransfer.common.head.keras_head import resizing_layer
from fedtransfer.common.seeds import digest
from fedtransfer.common.support.files import replacement, write_whole
from fedtransfer.common.support.processes import CORES
from fedtransfer.common.tensorflow import keras, tf

Pixels = NDArray[np.uint8]
Report = Callable[[str], None]


@dataclass(frozen=True)
class PretrainingRecipe:
    """The settings of pretraining; rates are for a batch, ``resolution`` is in pixels a side."""

    epochs: int = 14
    resolution: int = 64
    batch_size: int = 256
    learning_rate: float = 0.15
    weight_decay: float = 0.005
    label_smoothing: float = 0.1
    validation_fraction: float = 0.1
    seed: int = 0

    def resolution_of(self, epoch: int) -> int:
        """Return the resolution of an epoch (0, 1, …), in pixels a side."""
        return self.resolution if epoch >= 4 * self.epochs // 7 else max(32, 3 * self.resolution // 4)


def pretrain(data: Path, out: Path, recipe: PretrainingRecipe, report: Report) -> Backbone:
    """Train a backbone, or resume from a checkpoint; write it with its card and statistics.

    Args:
        data: class folders, a manifest or an archive. Without validation images, a tenth is taken.
        out: the ``.keras`` file; card (``.md``) and ``.feature-statistics.npz`` go next to it.
        recipe: how to train.
        report: takes the progress, a line at a time.

    Raises:
        UserError: the images are not usable, ``out`` exists, or its checkpoint is of another run.
    """
    if out.suffix != ".keras":
        raise UserError(f"--out {out}: expected a file name that ends in .keras")
    if out.exists():
        raise UserError(f"--out {out} already exists; choose another name, or remove it")
    pixels, labels, splits, classes, keys = _load(data, recipe, report)
    train, validation = (np.flatnonzero(splits == name) for name in ("train", "validation"))
    if not len(train) or not len(validation):
        raise UserError(
            f"{data}: {len(train)} training and {len(validation)} validation images; expected some of both"
        )
    checkpoint, state = out.with_suffix(".checkpoint.keras"), out.with_suffix(".checkpoint.json")
    identity = digest(recipe.seed, "pretraining", json.dumps(asdict(recipe)), *keys).hex()
    if state.exists() and checkpoint.exists():
        saved = json.loads(state.read_text("utf-8"))
        if saved["identity"] != identity:
            raise UserError(
                f"{checkpoint} is the checkpoint of another run (other images or another recipe);"
                " remove it or choose another --out"
            )
        model, history = keras.models.load_model(checkpoint), saved["history"]
        report(f"resuming after epoch {len(history)}")
    else:
        model, history = _classifier(recipe, len(train), len(classes)), []
    for epoch in range(len(history), recipe.epochs):
        size = recipe.resolution_of(epoch)
        fit = model.fit(_augmented(pixels, labels, train, recipe, epoch), epochs=1, shuffle=False, verbose=0)
        scores = model.evaluate(_plain(pixels, labels, validation, recipe), verbose=0, return_dict=True)
        history.append({"epoch": epoch + 1, "pixels": size, "loss": fit.history["loss"][-1], **scores})
        report(
            f"epoch {epoch + 1} of {recipe.epochs} at {size} px: loss {history[-1]['loss']:.3f},"
            f" validation accuracy {scores['top1']:.1%}"
        )
        checkpoint.parent.mkdir(parents=True, exist_ok=True)
        with replacement(checkpoint, suffix=".keras") as temporary:
            model.save(temporary)
            state.unlink(missing_ok=True)
        write_whole(state, json.dumps({"identity": identity, "history": history}))  # last: it names the epoch
    network = keras.Model(model.input, model.get_layer("features").output, name="small_resnet_v2")
    features = network.predict(_plain(pixels, labels, validation, recipe), verbose=0)
    out.parent.mkdir(parents=True, exist_ok=True)
    with replacement(out.with_suffix(".feature-statistics.npz")) as temporary, temporary.open("wb") as file:
        np.savez(file, mean=features.mean(0), std=features.std(0), images=len(features))
    with replacement(out, suffix=".keras") as temporary:
        network.save(temporary)
    backbone = load_backbone(str(out), "", recipe.resolution)
    card = _card(data, out, recipe, backbone, classes, len(train), len(validation), history)
    write_whole(out.with_suffix(".md"), card)
    for leftover in (checkpoint, state):
        leftover.unlink()
    return backbone


def _load(
    data: Path, recipe: PretrainingRecipe, report: Report
) -> tuple[Pixels, NDArray[np.int32], NDArray[np.str_], tuple[str, ...], list[bytes]]:
    """Return images (n, R, R, 3) uint8, class numbers, splits, class names and keys."""
    source = read_source(data)
    if len(source.classes) < 2:
        raise UserError(
            f"{data}: got one class ({source.classes[0]}); expected two or more, to learn to tell them apart"
        )
    resize = resizing_layer(recipe.resolution)

    def read(image: Image) -> tuple[bytes, NDArray[np.uint8]] | str:
        try:
            content = image.read()
            return content_key(content), np.asarray(resize(decode(content)[None]))[0].round().astype(np.uint8)
        except (OSError, ValueError) as error:
            return f"left out {image.path}: {error}"

    report(f"reading {len(source.images)} images of {len(source.classes)} classes")
    with ThreadPoolExecutor(CORES) as pool:
        results = list(pool.map(read, source.images))
    number = {name: i for i, name in enumerate(source.classes)}
    keys, pixels, labels, splits = [], [], [], []
    for image, result in zip(source.images, results, strict=True):
        if isinstance(result, str):
            report(result)
            continue
        keys.append(result[0])
        pixels.append(result[1])
        labels.append(number[image.label])
        splits.append(split_of(image, result[0], recipe.seed, 1e-9, recipe.validation_fraction))
    if not pixels:
        raise UserError(f"{data}: none of its {len(source.images)} images can be read")
    return np.stack(pixels), np.array(labels, np.int32), np.array(splits), source.classes, keys


def _classifier(recipe: PretrainingRecipe, images: int, classes: int) -> Any:
    keras.utils.set_random_seed(int.from_bytes(digest(recipe.seed, "initial backbone")[:4]))
    body = small_resnet()
    model = keras.Model(body.input, keras.layers.Dense(classes, name="classes", dtype="float32")(body.output))
    steps = math.ceil(images / recipe.batch_size) * recipe.epochs
    rate = keras.optimizers.schedules.CosineDecay(
        0.0,
        steps - steps // 20,
        alpha=0.0,
        warmup_target=recipe.learning_rate,
        warmup_steps=max(1, steps // 20),
    )
    optimizer = keras.optimizers.SGD(rate, momentum=0.9, nesterov=True, weight_decay=recipe.weight_decay)
    optimizer.exclude_from_weight_decay(var_names=["gamma", "beta", "bias"])
    loss = keras.losses.CategoricalCrossentropy(from_logits=True, label_smoothing=recipe.label_smoothing)
    top5 = keras.metrics.TopKCategoricalAccuracy(5, "top5")
    model.compile(optimizer, loss, metrics=[keras.metrics.CategoricalAccuracy("top1"), top5])
    return model


def _augmented(
    pixels: Pixels, labels: NDArray[np.int32], rows: NDArray[np.int64], recipe: PretrainingRecipe, epoch: int
) -> Any:
    """Return an epoch of resized crops (area 0.35 to 1) and flips, by (seed, epoch, image) only."""
    size, classes = recipe.resolution_of(epoch), int(labels.max()) + 1
    seed_of_order = np.frombuffer(digest(recipe.seed, "pretraining order", epoch), np.uint32)
    order = np.random.default_rng(seed_of_order).permutation(rows)

    def augment(image: Any, label: Any, row: Any) -> tuple[Any, Any]:
        seed = tf.stack([recipe.seed * 1000 + epoch, tf.cast(row, tf.int32)])
        begin, extent, _ = tf.image.stateless_sample_distorted_bounding_box(
            tf.shape(image), tf.zeros((1, 0, 4)), seed, area_range=(0.35, 1.0),
            aspect_ratio_range=(3 / 4, 4 / 3), use_image_if_no_bounding_boxes=True,
        )  # fmt: skip
        crop = tf.image.resize(tf.slice(image, begin, extent), (size, size), antialias=True)
        return tf.image.stateless_random_flip_left_right(crop, seed), tf.one_hot(label, classes)

    # Captured by reference, not copied into the graph.
    images, numbers = tf.constant(pixels), tf.constant(labels)
    data = tf.data.Dataset.from_tensor_slices(order)
    data = data.map(lambda row: (tf.gather(images, row), tf.gather(numbers, row), row))
    return (
        data.map(augment, num_parallel_calls=CORES, deterministic=True).batch(recipe.batch_size).prefetch(2)
    )


def _plain(
    pixels: Pixels,
    labels: NDArray[np.int32],
    rows: Sequence[int] | NDArray[np.int64],
    recipe: PretrainingRecipe,
) -> Any:
    classes = int(labels.max()) + 1
    data = tf.data.Dataset.from_tensor_slices((pixels[rows], labels[rows])).batch(recipe.batch_size)
    return data.map(lambda image, label: (tf.cast(image, tf.float32), tf.one_hot(label, classes)))


def _card(
    data: Path, out: Path, recipe: PretrainingRecipe, backbone: Backbone, classes: tuple[str, ...],
    train: int, validation: int, history: list[dict[str, Any]],
) -> str:  # fmt: skip
    rows = [
        ("file", out.name), ("fingerprint", f"`{backbone.fingerprint}`"),
        ("architecture", f"small pre-activation ResNet, {backbone.features} features"),
        ("in, out", f"RGB 0 to 255, trained for {recipe.resolution} × {recipe.resolution}"
         f" → {backbone.features} features; preprocessing inside"),
        ("data", f"{data.name}: {len(classes)} classes, {train} training and {validation} validation images"),
        ("recipe", ", ".join(f"{key} {value}" for key, value in asdict(recipe).items())),
        ("validation accuracy", f"{history[-1]['top1']:.1%} top-1, {history[-1]['top5']:.1%} top-5"),
        ("feature statistics", f"{out.stem}.feature-statistics.npz, over the validation images:"
         " publish it only if these are public"),
    ]  # fmt: skip
    table = "\n".join(f"| {name} | {value} |" for name, value in rows)
    return f"# {out.stem}\n\nA backbone trained by `fedtransfer pretrain`.\n\n| | |\n|---|---|\n{table}\n"
