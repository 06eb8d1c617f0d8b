from fedtransfer.common.data.checks import examine, examine_sites
from fedtransfer.common.data.images import Image


def test_a_test_image_in_training_is_named() -> None:
    images = [
        Image("a.png", "cat", "development"),
        Image("b.png", "cat", "test"),
        Image("c.png", "dog", "test"),
    ]
    [warning] = examine(images, [b"1", b"1", b"2"], ["train", "test", "test"])
    assert warning == (
        "1 test image is among the training or validation images too, so scores are too good: "
        "a.png (cat) = b.png (cat)"
    )
    assert examine(images, [b"1", b"2", None], ["train", "test", ""]) == []


def test_many_copies_are_counted_and_a_few_named() -> None:
    images = [Image(f"{i}-{label}.png", label) for i in range(5) for label in ("cat", "dog")]
    [warning] = examine(images, [bytes([i // 2]) for i in range(10)], ["train"] * 10)
    assert warning.startswith("5 images ")
    assert ": 0-cat.png (cat) = 0-dog.png (dog); " in warning
    assert warning.endswith("; and 2 more")


def test_sites_too_small_to_divide_are_named() -> None:
    splits = {"a": ["train", "validation", "test"], "b": ["train", "test"], "c": ["train"]}
    validation, test = examine_sites(splits)
    assert validation.startswith("2 sites have no validation image")
    assert validation.endswith(": b, c")
    assert test.startswith("1 site has no test image")
    assert test.endswith(": c")
