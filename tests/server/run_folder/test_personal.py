import math

import numpy as np
import pytest

from fedtransfer.common.wire.protocol import Description, Personal
from fedtransfer.server.run_folder.summary import summarise_personal


def personal(images: int, *correct: int, share: float = 1.0) -> Personal:
    return Personal(9, "print", "classes", images, np.array(correct), share)


def described(*sites: str) -> dict[str, Description]:
    return {site: Description({"a": (5, 1, 2)}, 0) for site in sites}


def test_means_worst_and_pooled() -> None:
    answers = {
        "anna": personal(10, 5, 6, 4, 8, share=0.5),  # fine-tuned harms: below global and local
        "berta": personal(40, 20, 10, 30, 20, share=1.0),
        "clara": personal(0, 0, 0, 0, 0, share=0.0),  # has no test images
        "dora": personal(50, 40, 45, 42, 39, share=0.3),  # mixed below both, fine-tuned between
    }
    told = summarise_personal(answers, described("anna", "berta", "clara", "dora", "emma"))
    assert (told["sites"], told["sites_without_test_images"], told["sites_without_answer"]) == (
        3,
        1,
        ["emma"],
    )
    assert told["images"] == 100
    assert told["share"] == pytest.approx(0.6)
    assert told["global"] == pytest.approx({"mean": (0.5 + 0.5 + 0.8) / 3, "worst": 0.5, "pooled": 0.65})
    assert told["local"] == pytest.approx({"mean": (0.6 + 0.25 + 0.9) / 3, "worst": 0.25, "pooled": 0.61})
    assert told["fine_tuned"] == pytest.approx({
        "mean": (0.4 + 0.75 + 0.84) / 3, "worst": 0.4, "pooled": 0.76,
        "worse_than_global": 1 / 3, "worse_than_local": 2 / 3,
    })  # fmt: skip
    assert told["mixed"] == pytest.approx({
        "mean": (0.8 + 0.5 + 0.78) / 3, "worst": 0.5, "pooled": 0.67,
        "worse_than_global": 1 / 3, "worse_than_local": 1 / 3,
    })  # fmt: skip


def test_no_site_with_test_images() -> None:
    told = summarise_personal({"anna": personal(0, 0, 0, 0, 0)}, described("anna"))
    assert (told["sites"], told["sites_without_test_images"]) == (0, 1)
    numbers = [told["share"], *told["global"].values(), *told["mixed"].values()]
    assert len(numbers) == 9
    assert all(map(math.isnan, numbers))
