"""Networks in ONNX as backbones: what is read, what its fingerprint counts, what is refused."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
from onnx import ModelProto, TensorProto, helper
from small_onnx import FEATURES, model, network, saved

from fedtransfer.common.backbone import compiled
from fedtransfer.common.backbone.backbone import Backbone, load_backbone
from fedtransfer.common.backbone.onnx_graph import Nodes
from fedtransfer.common.backbone.public_statistics import write_statistics
from fedtransfer.common.errors import UserError

PIXELS = np.random.default_rng(0).uniform(0, 255, (3, 32, 32, 3)).astype(np.float32)
MEAN, STD = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
TORCH = ((PIXELS / 255 - MEAN) / STD).astype(np.float32)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    load_backbone.cache_clear()


def load(made: ModelProto, path: Path, preprocessing: str = "torch", output: str = "") -> Backbone:
    """Load a network again, whatever was at ``path`` before."""
    load_backbone.cache_clear()
    return load_backbone(saved(made, path) + output, "", 32, preprocessing)


def features(backbone: Backbone) -> Any:
    if backbone.alone:
        one = backbone.extractor(1)
        return np.concatenate([one(image[None]) for image in PIXELS])
    return backbone.extractor(len(PIXELS))(PIXELS)


def by_onnxruntime(made: ModelProto, images: Any, output: str = "") -> Any:
    session = onnxruntime.InferenceSession(made.SerializeToString())
    [image] = session.get_inputs()
    return session.run([output] if output else None, {image.name: images})[0]


@pytest.mark.parametrize(
    "settings",
    [{}, {"last": True}, {"batch": 4}, {"side": 32}, {"opset": 9}, {"kind": TensorProto.FLOAT16}],
    ids=str,
)
def test_features_are_those_of_onnxruntime(tmp_path: Path, settings: dict[str, Any]) -> None:
    made, images = network(**settings), TORCH if settings.get("last") else TORCH.transpose(0, 3, 1, 2)
    if "batch" in settings:
        images = np.concatenate([images, images[:1]])
    images = images.astype(np.float16) if "kind" in settings else images
    expected = by_onnxruntime(made, np.ascontiguousarray(images))[: len(PIXELS)]
    backbone = load(made, tmp_path / "my net.onnx")
    assert (backbone.name, backbone.features, backbone.alone) == ("my_net", FEATURES, False)
    rounding = 2e-3 if "kind" in settings else 1e-5
    np.testing.assert_allclose(features(backbone), expected, rtol=rounding, atol=rounding / 10)


def test_pixels_are_scaled_as_the_settings_say(tmp_path: Path) -> None:
    made = network()
    caffe = PIXELS[..., ::-1] - np.array([103.939, 116.779, 123.68])
    scaled = {
        "none": PIXELS, "tf": PIXELS / 127.5 - 1, "torch": TORCH, "auto": TORCH, "caffe": caffe,
        "mean=0.7,0.6,0.5 std=0.3,0.2,0.1": (PIXELS / 255 - [0.7, 0.6, 0.5]) / [0.3, 0.2, 0.1],
        "mean=0 std=1": PIXELS / 255,
    }  # fmt: skip
    identities = set()
    for preprocessing, images in scaled.items():
        expected = by_onnxruntime(made, np.ascontiguousarray(images.transpose(0, 3, 1, 2), np.float32))
        backbone = load(made, tmp_path / "net.onnx", preprocessing)
        np.testing.assert_allclose(features(backbone), expected, rtol=1e-4, atol=1e-4, err_msg=preprocessing)
        identities.add(backbone.identity)
        assert any("preprocessing torch" in note for note in backbone.notes) == (preprocessing == "auto")
    assert len(identities) == len(scaled) - 1  # auto is torch
    by_numbers = load(made, tmp_path / "net.onnx", "mean=0.485,0.456,0.406 std=0.229,0.224,0.225")
    assert by_numbers.identity == load(made, tmp_path / "net.onnx", "torch").identity


@pytest.mark.parametrize("last", [False, True])
def test_a_map_is_averaged_and_says_so(tmp_path: Path, last: bool) -> None:
    made = network(end="map", last=last)
    expected = by_onnxruntime(made, np.ascontiguousarray(TORCH if last else TORCH.transpose(0, 3, 1, 2)))
    backbone = load(made, tmp_path / "net.onnx")
    np.testing.assert_allclose(features(backbone), expected.mean((2, 3)), rtol=1e-5, atol=1e-6)
    assert backbone.notes == ("net.onnx: features are the mean over 15 x 15 places",)


def tokens(extra: int) -> ModelProto:
    """A class token (the mean of the others), ``extra`` tokens, and a square of patches."""
    nodes, rng = Nodes("t/"), np.random.default_rng(0)
    x = nodes.add("Conv", "image", nodes.constant(rng.normal(size=(FEATURES, 3, 8, 8))), strides=[8, 8])
    pooled = nodes.add("Reshape", nodes.add("GlobalAveragePool", x), nodes.constant([0, -1, 1], np.int64))
    x = nodes.add("Reshape", x, nodes.constant([0, FEATURES, -1], np.int64))
    nodes.add("Concat", *[pooled] * (1 + extra), x, axis=2, output="columns")
    nodes.add("Transpose", "columns", perm=[0, 2, 1], output="all")
    return model(nodes, [("image", ["batch", "channels", "height", "width"])], ["all"], 3)


def test_the_class_token_of_a_transformer_is_taken_where_it_is_sure(tmp_path: Path) -> None:
    backbone = load(tokens(0), tmp_path / "vit.onnx")
    expected = by_onnxruntime(tokens(0), np.ascontiguousarray(TORCH.transpose(0, 3, 1, 2)))
    np.testing.assert_allclose(features(backbone), expected[:, 0], rtol=1e-5, atol=1e-5)
    assert backbone.notes == (
        "vit.onnx: its input is taken for (n, 3, height, width)",
        "vit.onnx: features are the class token, the first of 17; 4 x 4 patches follow it",
    )
    with pytest.raises(UserError, match=r"output all is \(n, 19, 12\).* pooled output, or name a tensor"):
        load(tokens(2), tmp_path / "registers.onnx")


def two_outputs(*, both_vectors: bool = False) -> ModelProto:
    made = network(top=True)
    made.graph.node.append(helper.make_node("Relu", ["x/Conv_0"], ["map"]))
    other = ("features", 2) if both_vectors else ("map", 4)
    made.graph.output.append(helper.make_tensor_value_info(other[0], TensorProto.FLOAT, [None] * other[1]))
    return made


def test_an_output_is_chosen_by_its_name(tmp_path: Path) -> None:
    made, images = two_outputs(), np.ascontiguousarray(TORCH.transpose(0, 3, 1, 2))
    only = load(made, tmp_path / "net.onnx")
    assert only.features == 4
    assert (
        "features are output scores, the only vector of scores (n, 4), map (n, 12, 15, 15)" in only.notes[0]
    )
    inner = load(made, tmp_path / "net.onnx", output="#features")  # no output of the file
    np.testing.assert_allclose(features(inner), by_onnxruntime(network(), images), rtol=1e-5, atol=1e-6)
    assert inner.identity == load(network(), tmp_path / "plain.onnx").identity
    with pytest.raises(UserError, match=r"2 outputs: scores \(n, 4\), features \(n, 12\); name the one"):
        load(two_outputs(both_vectors=True), tmp_path / "net.onnx")
    with pytest.raises(UserError, match=r"net.onnx#other: .*no inner tensor of this name; .* scores, map"):
        load(made, tmp_path / "net.onnx", output="#other")


def test_class_scores_are_pointed_out(tmp_path: Path) -> None:
    file = tmp_path / "net.onnx"
    [note] = load(network(top=True), file).notes
    assert "if these are scores of classes, take the tensor below it: " in note
    assert note.endswith(f"--backbone {file}#features")
    made = network(top=True)
    made.graph.node.append(helper.make_node("Softmax", ["scores"], ["p"]))
    made.graph.output[0].name = "p"
    with pytest.raises(UserError, match=r"output p holds probabilities of classes.*net.onnx#features"):
        load(made, file)


def test_the_fingerprint_is_of_graph_and_weights_not_of_names(tmp_path: Path) -> None:
    first = load(network(), tmp_path / "a.onnx").identity
    renamed = network(names="other/")
    renamed.doc_string, renamed.producer_name = "exported again", "another program"
    renamed.graph.node.insert(3, helper.make_node("Identity", [renamed.graph.node[2].output[0]], ["same"]))
    renamed.graph.node[4].input[0] = "same"
    renamed.graph.node[0].attribute.append(helper.make_attribute("group", 1))  # the default
    assert load(renamed, tmp_path / "b.onnx").identity == first
    outside = saved(network(), tmp_path / "c.onnx", external=True)
    assert load_backbone(outside, "", 32, "torch").identity == first
    stride = network()
    stride.graph.node[0].attribute[0].ints[:] = [1, 1]
    for other in (network(seed=1), stride, network(end="map")):
        assert load(other, tmp_path / "d.onnx").identity != first


def test_a_branch_counts_with_what_is_inside_it(tmp_path: Path) -> None:
    def branching(value: float) -> ModelProto:
        made, name = network(), "branched"
        inside = Nodes("inside/")
        inside.add("Mul", "features", inside.constant(value), output="then")
        outputs = [helper.make_tensor_value_info("then", TensorProto.FLOAT, None)]
        graph = helper.make_graph(inside.nodes, "then", [], outputs, inside.constants)
        nodes = Nodes("b/")
        nodes.add("If", nodes.constant(True, np.bool_), output=name, then_branch=graph, else_branch=graph)
        made.graph.node.extend(nodes.nodes)
        made.graph.initializer.extend(nodes.constants)
        made.graph.output[0].name = name
        return made

    two = load(branching(2), tmp_path / "two.onnx")
    plain = by_onnxruntime(network(), np.ascontiguousarray(TORCH.transpose(0, 3, 1, 2)))
    np.testing.assert_allclose(features(two), 2 * plain, rtol=1e-5, atol=1e-6)
    assert two.identity != load(branching(3), tmp_path / "three.onnx").identity


def test_a_file_is_read_once_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = saved(network(), tmp_path / "net.onnx", external=True)
    first = load_backbone(file, "", 32, "torch")
    from fedtransfer.common.backbone import onnx_network

    def refuse(*_: object) -> None:
        raise AssertionError("the file was read again")

    monkeypatch.setattr(onnx_network, "read_onnx", refuse)
    load_backbone.cache_clear()
    assert load_backbone(file, "", 32, "torch").identity == first.identity
    for other in [(file, "", 32, "tf"), (f"{file}#x/Relu_1", "", 32, "torch"), (file, "", 48, "torch")]:
        load_backbone.cache_clear()
        with pytest.raises(AssertionError, match="read again"):
            load_backbone(*other)
    weights = tmp_path / "net.weights"
    content = bytearray(weights.read_bytes())
    content[100] ^= 1
    weights.write_bytes(content)
    load_backbone.cache_clear()
    with pytest.raises(AssertionError, match="read again"):
        load_backbone(file, "", 32, "torch")
    monkeypatch.undo()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    assert load_backbone(file, "", 32, "torch").identity != first.identity


def test_weights_beyond_a_limit_of_onnx_are_kept_next_to_the_copy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small = load(network(), tmp_path / "net.onnx")
    monkeypatch.setattr("fedtransfer.common.backbone.onnx_graph.LARGE", 100)
    large = load(network(end="vector", seed=0, names="n/"), tmp_path / "large.onnx")
    assert large.identity == small.identity
    assert large.compiled
    assert (large.compiled.folder / f"{compiled.ONNX}.data").stat().st_size > 600
    np.testing.assert_array_equal(features(large), features(small))


def test_a_network_of_one_image_is_computed_one_by_one(tmp_path: Path) -> None:
    nodes, rng = Nodes("f/"), np.random.default_rng(0)
    x = nodes.add("Conv", "image", nodes.constant(rng.normal(size=(FEATURES, 3, 8, 8))), strides=[8, 8])
    x = nodes.add("Reshape", x, nodes.constant([1, FEATURES, -1], np.int64))
    x = nodes.add("MatMul", x, nodes.constant(np.full((16, 1), 1 / 16)))
    nodes.add("Reshape", x, nodes.constant([1, FEATURES], np.int64), output="y")
    made = model(nodes, [("image", [1, 3, 32, 32])], ["y"])
    backbone = load(made, tmp_path / "fixed.onnx")
    assert backbone.alone
    assert "takes one image at a time" in backbone.notes[0]
    images = np.ascontiguousarray(TORCH.transpose(0, 3, 1, 2))
    expected = np.concatenate([by_onnxruntime(made, image[None]) for image in images])
    np.testing.assert_allclose(features(backbone), expected, rtol=1e-4, atol=1e-5)
    with pytest.raises(UserError, match=r"takes images of 32 x 32 only, got --resolution 64"):
        load_backbone(str(tmp_path / "fixed.onnx"), "", 64, "torch")


def test_statistics_next_to_the_file_centre_its_features(tmp_path: Path) -> None:
    plain = load(network(), tmp_path / "net.onnx")
    raw = np.random.default_rng(0).normal(size=(20, FEATURES)).astype(np.float32)
    write_statistics(tmp_path / "net.feature-statistics.npz", raw, plain.identity, 32)
    centred = load(network(), tmp_path / "net.onnx", output="#features")
    assert centred.mean is not None
    np.testing.assert_allclose(centred.mean, raw.mean(0), rtol=1e-5)
    assert centred.identity != plain.identity


def test_only_a_keras_network_is_cut_or_computed_by_tensorflow(tmp_path: Path) -> None:
    backbone = load(network(), tmp_path / "net.onnx")
    with pytest.raises(UserError, match="net is ONNX, and only a Keras network is trained"):
        _ = backbone.network
    with pytest.raises(UserError, match="--compute tensorflow: it cannot compute net, which is ONNX"):
        load_backbone(str(tmp_path / "net.onnx"), "", 32, "torch", compute="tensorflow")


def pooled(inner: Callable[[Nodes], str], channels: Any = 3, **more: Any) -> ModelProto:
    nodes = Nodes("p/")
    vector = nodes.add("Flatten", nodes.add("GlobalAveragePool", inner(nodes)))
    return model(nodes, [("a", ["n", channels, "h", "w"])], [vector], **more)


def grey(nodes: Nodes) -> str:
    return nodes.add("Conv", "a", nodes.constant(np.ones((2, 1, 3, 3))))


def two_inputs() -> ModelProto:
    nodes = Nodes("p/")
    vector = nodes.add("Flatten", nodes.add("GlobalAveragePool", "a"))
    nodes.add("Add", vector, "age", output="y")
    return model(nodes, [("a", ["n", 3, "h", "w"]), ("age", ["n", 3])], ["y"])


def dynamic_width() -> ModelProto:
    nodes = Nodes("p/")
    found = nodes.add("NonZero", nodes.add("Reshape", "a", nodes.constant([1, -1], np.int64)))
    nodes.add("Cast", found, to=TensorProto.FLOAT, output="y")
    return model(nodes, [("a", [1, 3, "h", "w"])], ["y"])


def no_image() -> ModelProto:
    nodes = Nodes("p/")
    nodes.add("MatMul", "a", nodes.constant(np.ones((5, 2))), output="y")
    return model(nodes, [("a", ["n", 5])], ["y"])


def whole_numbers() -> ModelProto:
    made = pooled(lambda nodes: nodes.add("Cast", "a", to=TensorProto.FLOAT))
    made.graph.input[0].type.tensor_type.elem_type = TensorProto.UINT8
    return made


def own_operator() -> ModelProto:
    made = pooled(lambda nodes: nodes.add("Frobnicate", "a", domain="com.acme"))
    made.opset_import.append(helper.make_opsetid("com.acme", 1))
    return made


REFUSED = {
    "two inputs": (two_inputs, r"2 inputs: a \(float n, 3, h, w\), age \(float n, 3\); expected one image"),
    "no image": (no_image, r"its input is a \(float n, 5\); expected RGB images, \(n, 3, height, width\) or"),
    "grey": (lambda: pooled(grey, 1), r"its input is a \(float n, 1, h, w\); expected RGB images"),
    "whole numbers": (whole_numbers, r"its input is a \(uint8 n, 3, h, w\); expected real numbers"),
    "oblong": (lambda: oblong(), r"\(float n, 3, 32, 48\); expected square images"),
    "dynamic width": (dynamic_width, r"output y is of no fixed shape; .* so that the width is fixed"),
    "unknown operator": (
        lambda: pooled(lambda nodes: nodes.add("Frobnicate", "a")),
        r"ONNX refuses it: No Op registered for Frobnicate",
    ),
    "operator of a firm": (own_operator, r"OpenVINO cannot compute it at 32 x 32.*com.acme.Frobnicate"),
    "NaN": (
        lambda: pooled(lambda nodes: nodes.add("Log", nodes.add("Neg", nodes.add("Abs", "a")))),
        r"gives features that are NaN or infinite; does --preprocessing fit",
    ),
    "the same for all": (
        lambda: pooled(lambda nodes: nodes.add("Mul", "a", nodes.constant(0))),
        r"gives the same features for different images",
    ),
    "tokens": (lambda: network(end="tokens"), r"is \(n, 225, 12\); expected one vector an image"),
}  # fmt: skip


def oblong() -> ModelProto:
    made = network()
    for at, side in ((2, 32), (3, 48)):
        made.graph.input[0].type.tensor_type.shape.dim[at].dim_value = side
    return made


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_no_such_network_is_refused_with_the_reason(tmp_path: Path, case: str) -> None:
    make, text = REFUSED[case]
    with pytest.raises(UserError, match=text):
        load(make(), tmp_path / "net.onnx")
    assert not [*tmp_path.glob("cache/fedtransfer/networks/*")]


@pytest.mark.parametrize(
    "made", [network(last=True), pooled(lambda nodes: nodes.add("Sub", "a", nodes.constant(127)))]
)
def test_preprocessing_is_asked_for_where_it_would_be_a_guess(tmp_path: Path, made: ModelProto) -> None:
    with pytest.raises(UserError, match=r"does not tell which pixels it expects; say it: --preproc"):
        load(made, tmp_path / "net.onnx", "auto")


def test_a_damaged_file_is_refused(tmp_path: Path) -> None:
    file = Path(saved(network(), tmp_path / "net.onnx"))
    whole = file.read_bytes()
    damaged = [whole[: len(whole) // 2], whole[:-1], b"", b"A page of text\n" * 9]
    damaged.append(whole.replace(b"GlobalAveragePool", b"GlobalAveragePoom"))
    for content in damaged:
        file.write_bytes(content)
        load_backbone.cache_clear()
        with pytest.raises(UserError, match=r"net.onnx: (no network in ONNX, or a damaged one|ONNX refuses)"):
            load_backbone(str(file), "", 32)
    with pytest.raises(UserError, match=r"nothing.onnx: no such file; expected a network in ONNX"):
        load_backbone(str(tmp_path / "nothing.onnx"))


def test_weights_next_to_the_file_are_checked(tmp_path: Path) -> None:
    file, weights = saved(network(), tmp_path / "net.onnx", external=True), tmp_path / "net.weights"
    weights.write_bytes(weights.read_bytes()[:-9])
    with pytest.raises(UserError, match=r"ONNX refuses it: External data"):
        load_backbone(file, "", 32)
    weights.unlink()
    with pytest.raises(UserError, match=r"its weights are in net.weights, which is not in .*one folder"):
        load_backbone(file, "", 32)
    content = Path(file).read_bytes().replace(b"net.weights", b"../weights.")
    Path(file).write_bytes(content)
    with pytest.raises(UserError, match=r"its weights are in ../weights.; expected a file next to it"):
        load_backbone(file, "", 32)
