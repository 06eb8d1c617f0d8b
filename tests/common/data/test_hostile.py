"""All that a user's folder may hold; each outcome is known, and none stops a run."""

import io
import os
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from pictures import COLOURS, picture
from PIL import Image as Pillow
from rich.console import Console

from fedtransfer.common.config.config import RunConfig
from fedtransfer.common.data.images import MAX_BYTES, decode
from fedtransfer.simulations.display import Display
from fedtransfer.simulations.federation import Result, simulate

BASE = picture(COLOURS["red"], 5, (48, 36))
GREY = BASE.convert("L")


def save(**options: object) -> Callable[[Path, Pillow.Image], None]:
    return lambda path, image: image.save(path, **options)


def write(content: bytes) -> Callable[[Path], None]:
    return lambda path: path.write_bytes(content)


def encoded(image: Pillow.Image, kind: str) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind)
    return buffer.getvalue()


def bomb() -> bytes:
    """A PNG that says it has 60,000 × 60,000 pixels."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0))
        + chunk(b"IDAT", b"")
        + chunk(b"IEND", b"")
    )


def exif(orientation: int) -> Pillow.Exif:
    tags = Pillow.Exif()
    tags[0x0112] = orientation
    return tags


def clear() -> Pillow.Image:
    image = BASE.convert("RGBA")
    image.putalpha(Pillow.new("L", BASE.size, 0))
    return image


def palette_with_transparency(path: Path) -> None:
    image = BASE.quantize(8)
    image.save(path, transparency=0)


DEEP = (np.asarray(GREY).astype(np.uint16) << 8) + 128

# name → (how it is made, what decode must give: shape and a check of the pixels)
READABLE: dict[str, tuple[Callable[[Path], object], Callable[[np.ndarray], bool]]] = {
    "rgb.png": (lambda p: BASE.save(p), lambda x: np.array_equal(x, np.asarray(BASE))),
    "grey.png": (lambda p: GREY.save(p), lambda x: np.array_equal(x[..., 1], np.asarray(GREY))),
    "black-and-white.png": (lambda p: GREY.convert("1").save(p), lambda x: set(np.unique(x)) <= {0, 255}),
    "palette.gif": (lambda p: BASE.save(p), lambda x: x[..., 0].mean() > 2 * x[..., 1].mean()),
    "palette-transparent.png": (palette_with_transparency, lambda x: (x == 255).all(2).any()),
    "cmyk.jpg": (lambda p: BASE.convert("CMYK").save(p), lambda x: x[..., 0].mean() > 2 * x[..., 1].mean()),
    "transparent.png": (lambda p: clear().save(p), lambda x: (x == 255).all()),
    "grey-alpha.png": (
        lambda p: GREY.convert("LA").save(p),
        lambda x: np.array_equal(x[..., 0], np.asarray(GREY)),
    ),
    "16-bit.png": (
        lambda p: Pillow.fromarray(DEEP).save(p),
        lambda x: np.array_equal(x[..., 0], np.asarray(GREY)),
    ),
    "16-bit.tiff": (
        lambda p: Pillow.fromarray(DEEP).save(p),
        lambda x: np.array_equal(x[..., 0], np.asarray(GREY)),
    ),
    "32-bit.tiff": (
        lambda p: Pillow.fromarray(DEEP.astype(np.int32) * 1000).save(p),
        lambda x: x.min() == 0 and x.max() == 255,
    ),
    "float.tiff": (
        lambda p: Pillow.fromarray(np.asarray(GREY, np.float32) / 1e6).save(p),
        lambda x: x.min() == 0 and x.max() == 255,
    ),
    "turned.jpg": (lambda p: BASE.save(p, exif=exif(6)), lambda x: x.shape == (48, 36, 3)),
    "mirrored.png": (
        lambda p: BASE.save(p, exif=exif(2)),
        lambda x: np.array_equal(x, np.asarray(BASE)[:, ::-1]),
    ),
    "animated.gif": (
        lambda p: BASE.save(p, save_all=True, append_images=[Pillow.new("RGB", BASE.size, "blue")]),
        lambda x: x[..., 0].mean() > x[..., 2].mean(),
    ),
    "png-named.jpg": (write(encoded(BASE, "PNG")), lambda x: np.array_equal(x, np.asarray(BASE))),
    "webp.webp": (lambda p: BASE.save(p, lossless=True), lambda x: np.array_equal(x, np.asarray(BASE))),
    "bmp.bmp": (lambda p: BASE.save(p), lambda x: np.array_equal(x, np.asarray(BASE))),
    "one-pixel.png": (lambda p: BASE.crop((0, 0, 1, 1)).save(p), lambda x: x.shape == (1, 1, 3)),
    "very-wide.png": (lambda p: BASE.resize((3000, 3)).save(p), lambda x: x.shape == (3, 3000, 3)),
    'odd "name", with\nline.png': (lambda p: BASE.crop((0, 0, 9, 9)).save(p), lambda x: x.shape == (9, 9, 3)),
    os.fsdecode(b"not-utf8-\xff.png"): (
        lambda p: BASE.crop((0, 0, 8, 8)).save(p),
        lambda x: x.shape == (8, 8, 3),
    ),
    "no-suffix": (lambda p: BASE.crop((0, 0, 7, 7)).save(p, "PNG"), lambda x: x.shape == (7, 7, 3)),
}

UNREADABLE: dict[str, tuple[Callable[[Path], object], str]] = {
    "empty.png": (write(b""), "the file is empty"),
    "truncated.jpg": (write(encoded(BASE, "JPEG")[:700]), "damaged"),
    "truncated.png": (write(encoded(BASE, "PNG")[:700]), "damaged"),
    "text-named.jpg": (write(b"dear diary"), "not an image"),
    "document.pdf": (write(b"%PDF-1.7 ..."), "not an image"),
    "drawing.svg": (write(b"<svg xmlns='http://www.w3.org/2000/svg'/>"), "not an image"),
    "bomb.png": (write(bomb()), "too large"),
    "flipped.png": (
        lambda p: p.write_bytes(encoded(BASE, "PNG")[:60] + b"\0\0\0\0" + encoded(BASE, "PNG")[64:]),
        "damaged",
    ),
    "pipe.png": (os.mkfifo, "not a regular file"),
    "nowhere.png": (lambda p: p.symlink_to("gone.png"), "No such file"),
    "self.png": (lambda p: p.symlink_to("self.png"), "Too many levels"),
    "huge.png": (lambda p: (p.touch(), os.truncate(p, MAX_BYTES + 1)), "too large: 1,073,741,825 bytes"),
}


@pytest.mark.parametrize("name", READABLE)
def test_what_a_person_can_see_is_read_as_they_see_it(tmp_path: Path, name: str) -> None:
    make, check = READABLE[name]
    make(tmp_path / name)
    pixels = decode((tmp_path / name).read_bytes())
    assert pixels.dtype == np.uint8
    assert pixels.ndim == 3
    assert pixels.shape[2] == 3
    assert check(pixels)


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Result:
    """A run on a folder of all the above, in class folders with names of many scripts."""
    root = tmp_path_factory.mktemp("hostile")
    names = ["犬 und Katze", "e\u0301cole", "ولد", "😀 smile", "a.b,c"]
    for c, label in enumerate(names):
        (root / "data" / label).mkdir(parents=True)
        for i in range(15):
            picture((40 * c, 200 - 40 * c, 90), 100 * c + i).save(root / "data" / label / f"{i}.png")
    first, second = root / "data" / names[0], root / "data" / names[1]
    for name, (make, _) in {**READABLE, **UNREADABLE}.items():
        make(first / name)
    (first / "folder.png").mkdir()
    (first / "folder.png" / "loop").symlink_to(first)
    (root / "data" / "vanished class").mkdir()
    (root / "data" / ".git").mkdir()
    (root / "data" / "Thumbs.db").write_bytes(b"x")
    (root / "data" / "A.B,C").mkdir()
    picture((9, 9, 9), 7777).save(root / "data" / "A.B,C" / "1.png")
    BASE.save(second / "also-here.png")  # the same content as rgb.png, under another label
    config = RunConfig(
        data=str(root / "data"),
        sites=2,
        alpha=50.0,
        rounds=2,
        out=str(root / "run"),
        store=str(root / "store"),
    )
    return simulate(config, Display(Console(file=(root / "screen.txt").open("w"))))


@pytest.mark.run
def test_a_hostile_folder_does_not_stop_a_run(hostile: Result) -> None:
    assert hostile.summary["images"] == 5 * 15 + len(READABLE) + 2
    assert hostile.summary["classes"] == ["A.B,C", "a.b,c", "école", "ولد", "犬 und Katze", "😀 smile"]
    # rgb.png, png-named.jpg and the copy in another class are one content, extracted once.
    assert hostile.summary["features"] == {"extracted": hostile.summary["images"] - 2, "reused": 2}


@pytest.mark.run
def test_each_file_that_cannot_be_read_is_named_with_the_reason(hostile: Result) -> None:
    found = {Path(problem.path).name: problem.reason for problem in hostile.problems}
    for name, (_, words) in UNREADABLE.items():
        assert words in found.pop(name), name
    assert found.pop("loop") == "a link that leads back to a folder that is read already"
    assert found.pop("vanished class") == "class folder without files"
    assert found.pop("Thumbs.db") == "not inside a class folder"
    assert found == {}


@pytest.mark.run
def test_what_is_allowed_but_rarely_meant_is_warned_of(hostile: Result) -> None:
    warnings = "\n".join(hostile.summary["warnings"])
    assert "under more than one label, all of which are kept" in warnings
    assert "also-here.png (école)" in warnings
    assert "classes 'A.B,C', 'a.b,c' differ only in case or spaces" in warnings
    assert warnings.splitlines()[0] in (hostile.folder.parent / "screen.txt").read_text().replace(
        "warning: ", ""
    )
