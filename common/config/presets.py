"""Named recipes: settings that belong together (``--preset``)."""

PRESETS: dict[str, dict[str, str | int | float | bool]] = {
    # The classic transfer recipe: ImageNet ResNet50V2 at 224 px, Adam on cross-entropy, 20 % validation,
    # early stopping with patience 5; the server takes the plain weighted mean.
    "article": {
        "backbone": "resnet50v2",
        "resolution": 224,
        "optimizer": "adam",
        "learning-rate": 0.001,
        "local-epochs": 20,
        "validation-fraction": 0.2,
        "patience": 5,
        "rounds": 20,
        "server-learning-rate": 1.0,
        "server-momentum": 0.0,
    },
}
