"""Images of your own, in arrays: two hospitals with the same classes and different cameras."""

import numpy as np

import fedtransfer as ft


def draw_images(number, brightness, rng):
    """Return images (n, 32, 32, 3) uint8 and labels (n,): a spot above the middle or below it."""
    images = rng.integers(0, brightness, (number, 32, 32, 3), dtype=np.uint8)
    labels = rng.choice(["above", "below"], number)
    for image, label in zip(images, labels, strict=True):
        row = 6 if label == "above" else 20
        image[row : row + 6, 10:22] = 255
    return images, labels


if __name__ == "__main__":
    rng = np.random.default_rng(0)
    sites = {"north": draw_images(120, 200, rng), "south": draw_images(60, 100, rng)}
    run = ft.simulate(data=sites, strategy=ft.methods.fed3r)
    print(f"accuracy {run.accuracy:.1%} at {', '.join(run.sites['site'])}")

    images, labels = draw_images(40, 150, rng)
    print(f"a third camera: {run.evaluate((images, labels))['accuracy']:.1%}")
    chosen = np.array(run.classes)[run.predict(images[:3]).argmax(1)]
    print(f"three images: {', '.join(chosen)}; truth: {', '.join(labels[:3])}")

    class MeanColour:
        """A backbone of your own: images (n, h, w, 3) uint8 → features (n, d)."""

        name = "halves"

        def __call__(self, images):
            """Return the mean brightness of the upper and of the lower half."""
            return np.stack([images[:, :16].mean((1, 2, 3)), images[:, 16:].mean((1, 2, 3))], axis=1)

    simple = ft.simulate(data=sites, backbone=MeanColour(), standardise="federated", rounds=10)
    print(f"with two features: {simple.accuracy:.1%}")
