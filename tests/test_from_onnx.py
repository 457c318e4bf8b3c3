"""ONNX models read as functions: onnx's own cases of operators, models of PyTorch, bad files."""

import collections
import importlib
import random
import zlib

import coverage_matrix
import numpy as np
import pytest
from op_table import arrays
from test_onnx import parts, without_signs

import funtorch as ft
import funtorch.numpy as jnp
from funtorch import export, nnx
from funtorch.backends import to_onnx
from funtorch.jaxpr import eval_jaxpr, stage
from funtorch.onnx import control
from funtorch.onnx.node import NARROW, OnnxError, UnsupportedOnnx
from funtorch.testing import check_grads
from funtorch.transforms.export import _portable

onnx = pytest.importorskip("onnx")
from onnx import TensorProto, helper, numpy_helper  # noqa: E402

KEYS = ft.random.split(ft.random.key(0), 8)
FLOAT, INT64 = TensorProto.FLOAT, TensorProto.INT64

# Cases that are not run, by the start of their names: why.
WITHOUT = {
    "test_ai_onnx_ml": "of classical machine learning",
    "test_adagrad": "training steps as operators: funtorch.optim has them",
    "test_adam": "training steps as operators: funtorch.optim has them",
    "test_momentum": "training steps as operators: funtorch.optim has them",
    "test_nesterov_momentum": "training steps as operators: funtorch.optim has them",
    "test_string": "strings: arrays hold numbers",
    "test_strnormalizer": "strings: arrays hold numbers",
    "test_regex": "strings: arrays hold numbers",
    "test_equal_string": "strings: arrays hold numbers",
    "test_tfidfvectorizer": "strings: arrays hold numbers",
    "test_image_decoder": "files of images",
    "test_cast_e8m0": "a type of exponents alone, for scales of blocks",
    "test_scan_sum": "version 8 of Scan, with an axis of batches",
}


# ------------------------------------------------------------------------------ onnx's own cases
def value(x):
    if isinstance(x, TensorProto):
        return numpy_helper.to_array(x)
    if isinstance(x, onnx.SequenceProto):
        return [numpy_helper.to_array(t) for t in x.tensor_values]
    return numpy_helper.to_optional(x) if isinstance(x, onnx.OptionalProto) else x


def same(got, want, rtol, case):
    if isinstance(want, list):
        assert isinstance(got, list)
        for a, b in zip(got, want, strict=True):
            same(a, b, rtol, case)
        return
    if want is None:
        assert got is None
        return
    got, want = np.asarray(got), np.asarray(want)
    want = want.astype(NARROW.get(want.dtype, want.dtype))
    assert (got.shape, got.dtype) == (want.shape, want.dtype), case.name
    if "bernoulli" in case.name or "training_dropout" in case.name:
        return  # random
    if want.dtype.kind not in "biu" and want.dtype.itemsize == 2:
        rtol = 2e-2 if "bf16" in case.name else 1e-2
    wide = "complex128" if want.dtype.kind == "c" else "float64"
    np.testing.assert_allclose(
        got.astype(wide), want.astype(wide), rtol=rtol, atol=1e-6, err_msg=case.name
    )


def run_case(case):
    model = ft.from_onnx(case.model)
    for inputs, outputs in case.data_sets:
        given = [value(x) for x in inputs]
        got = model(*given)
        got = [got] if len(model.output_names) == 1 else got
        for a, b in zip(got, outputs, strict=True):
            same(a, value(b), case.rtol, case)


SOME = (
    "attention", "averagepool", "batch_normalization", "cast", "center_crop_pad", "clip", "concat",
    "conv", "convtranspose", "cumsum", "deformconv", "dequantizelinear", "dft", "einsum",
    "gather", "gemm", "gridsample", "groupnormalization", "gru", "if_", "layernormalization",
    "loop", "lstm", "matmulinteger", "maxpool", "nonmaxsuppression", "onehot", "pad",
    "qlinearconv", "quantizelinear", "reducemax", "reshape", "resize", "roialign", "scan",
    "scatternd", "slice", "softmax_cross_entropy_loss", "split", "topk", "unique", "where",
)  # fmt: skip
"""Modules of onnx's that make cases: making all of them takes five seconds."""


def cases(every):
    """Return onnx's cases of operators."""
    made = importlib.import_module("onnx.backend.test.case.node")
    if every:
        return made.collect_testcases(None)
    for name in SOME:
        importlib.import_module(f"onnx.backend.test.case.node.{name}")
    return list(made._NodeTestCases)


def skipped(name):
    if "FLOAT8E8M0" in name or "e8m0" in name.lower():
        return True
    return name == "test_scan_sum" or any(
        name.startswith(k) for k in WITHOUT if k not in ("test_scan_sum", "test_cast_e8m0")
    )


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("every", [False, pytest.param(True, marks=pytest.mark.parity)])
def test_the_cases_of_onnx_itself(every):
    """Some of them in every run, all of them with -m parity."""
    passed, left = collections.Counter(), []
    for case in cases(every):
        if skipped(case.name):
            left.append(case.name)
            continue
        run_case(case)
        passed[case.model.graph.node[0].op_type] += 1
    total = passed.total()
    assert total > 0.95 * (total + len(left))
    least = (1800, 170) if every else (400, 40)
    assert total > least[0]
    assert len(passed) > least[1]


# ------------------------------------------------------------------------------ our own models
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_what_we_write_reads_back():
    """Every row of the op table that ONNX expresses: written, read, run."""
    compared = 0
    for row in coverage_matrix.all_rows():
        if zlib.crc32(row.name.encode()) % 3:
            continue
        ins = arrays([np.asarray(a) for a in row.samples[0]])
        jaxpr = _portable(stage(row.flat, [x.aval for x in ins]))
        names = [f"x{k}" for k in range(len(jaxpr.invars))]
        made = [f"y{k}" for k in range(len(jaxpr.outvars))]
        try:
            proto = to_onnx(jaxpr, [*names, *made], "row")
        except NotImplementedError:
            continue
        model = ft.from_onnx(proto)
        outs = model(*(jnp.asarray(parts(x)) for x in ins))
        outs = [outs] if len(made) == 1 else outs
        wanted = [jnp.asarray(parts(x)) for x in eval_jaxpr(jaxpr, *ins)]
        outs, wanted = (without_signs(row.name, found) for found in (outs, wanted))
        for got, want in zip(outs, wanted, strict=True):
            assert (got.shape, got.dtype) == (want.shape, want.dtype), row.name
            got, want = np.asarray(got), np.asarray(want)
            np.testing.assert_allclose(got, want, rtol=2e-4, atol=1e-5, err_msg=row.name)
        compared += 1
    assert compared > 50


def network():
    return nnx.Sequential(
        nnx.Conv2d(1, 4, 3, key=KEYS[0]), nnx.BatchNorm2d(4), nnx.GELU(), nnx.MaxPool2d(2),
        nnx.Flatten(), nnx.Linear(36, 3, key=KEYS[1]),
    )  # fmt: skip


def test_a_network_of_any_batch_is_trained_mapped_and_exported_again():
    net = network()
    (b,) = export.symbolic_shape("b")
    proto = ft.export(net)(ft.ShapeDtypeStruct((b, 1, 8, 8), "float32")).to_onnx()
    model = ft.from_onnx(proto.SerializeToString())
    assert "float32[b,1,8,8]" in repr(model)
    x = ft.random.normal(KEYS[2], (5, 1, 8, 8))
    np.testing.assert_allclose(ft.jit(model)(x), net(x), rtol=1e-4, atol=1e-5)
    with pytest.raises(TypeError, match=r"takes float32\[b,1,8,8\] as .*, got float32\[5,1,7,8\]"):
        model(x[:, :, :7])

    def loss(model, x):
        return (model(x) ** 2).mean()

    got = ft.jit(ft.grad(loss))(model, x)
    assert len(got.params) == len(model.params) > 2
    name = next(k for k, v in got.params.items() if v.shape in ((3, 36), (36, 3)))
    rest = model.params

    def of_head(w):
        return (model.apply({**rest, name: w}, x) ** 2).mean()

    check_grads(of_head, (rest[name],), 1, modes=["rev"], rtol=1e-2, atol=1e-2)
    np.testing.assert_allclose(ft.grad(of_head)(rest[name]), got.params[name], rtol=1e-5)
    smaller = ft.tree.map(lambda p, g: p - 0.1 * g, model, got)
    assert float(loss(smaller, x)) < float(loss(model, x))
    mapped = ft.vmap(model)(x[:, None])
    np.testing.assert_allclose(mapped[:, 0], model(x), rtol=1e-4, atol=1e-5)
    again = ft.export(model)(ft.ShapeDtypeStruct((b, 1, 8, 8), "float32"))
    np.testing.assert_allclose(again.call(x), model(x), rtol=1e-4, atol=1e-5)


@pytest.mark.filterwarnings("ignore")
def test_a_model_of_pytorch(tmp_path):
    torch = pytest.importorskip("torch")
    layers = torch.nn
    net = layers.Sequential(
        layers.Conv2d(3, 8, 3, stride=2, padding=1), layers.SiLU(), layers.MaxPool2d(2),
        layers.ConvTranspose2d(8, 4, 3), layers.GroupNorm(2, 4), layers.AdaptiveAvgPool2d(2),
        layers.Flatten(), layers.Linear(16, 5), layers.LogSoftmax(-1),
    ).eval()  # fmt: skip
    x = torch.randn(3, 3, 16, 16)
    path = tmp_path / "net.onnx"
    names = {"input_names": ["x"], "dynamic_axes": {"x": {0: "b"}}}
    torch.onnx.export(net, (x[:1],), str(path), dynamo=False, opset_version=17, **names)
    got = ft.jit(ft.from_onnx(path))(x.numpy())
    np.testing.assert_allclose(got, net(x).detach().numpy(), rtol=1e-4, atol=1e-5)


def architectures(torch):
    """Return networks of PyTorch with an input of each: what its exporter writes differently."""
    layers, f = torch.nn, torch.nn.functional

    class Vision(layers.Module):
        """Patches, a token of its own, attention by heads."""

        def __init__(self):
            super().__init__()
            self.patches, self.norm = layers.Conv2d(3, 16, 4, 4), layers.LayerNorm(16)
            self.token = layers.Parameter(torch.randn(1, 1, 16))
            self.places = layers.Parameter(torch.randn(1, 17, 16))
            self.split, self.out = layers.Linear(16, 48), layers.Linear(16, 5)

        def forward(self, x):
            x = self.patches(x).flatten(2).transpose(1, 2)
            x = torch.cat([self.token.expand(x.shape[0], -1, -1), x], 1) + self.places
            y = self.split(self.norm(x)).reshape(x.shape[0], 17, 3, 4, 4)
            q, k, v = y.permute(2, 0, 3, 1, 4)
            x = x + f.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
            return self.out(f.gelu(x)[:, 0])

    class Recurrent(layers.Module):
        def __init__(self):
            super().__init__()
            self.words, self.gru = layers.Embedding(20, 8), layers.GRU(24, 6)
            self.lstm = layers.LSTM(8, 12, 2, bidirectional=True, batch_first=True)

        def forward(self, x):
            return self.gru(self.lstm(self.words(x))[0].transpose(0, 1))

    class Hourglass(layers.Module):
        """A U-Net: down, up by transposed convolution and by interpolation, what was skipped."""

        def __init__(self):
            super().__init__()
            self.a = layers.Sequential(layers.Conv2d(2, 8, 3, padding=1), layers.BatchNorm2d(8))
            self.b = layers.Conv2d(8, 16, 3, padding=2, groups=2, dilation=2)
            self.up, self.out = layers.ConvTranspose2d(16, 8, 2, 2), layers.Conv2d(16, 1, 1)

        def forward(self, x):
            a = f.leaky_relu(self.a(x), 0.1)
            b = self.b(f.avg_pool2d(f.max_pool2d(a, 2), 2))
            y = f.interpolate(self.up(b), scale_factor=2, mode="bilinear", align_corners=False)
            return torch.sigmoid(self.out(torch.cat([y, a], 1)))

    class Masked(layers.Module):
        """A transformer with a causal mask and one of padding."""

        def __init__(self):
            super().__init__()
            self.words = layers.Embedding(30, 16)
            layer = layers.TransformerEncoderLayer(16, 2, 32, 0.0, "gelu", batch_first=True)
            self.encoder = layers.TransformerEncoder(layer, 2, enable_nested_tensor=False)
            self.decoder = layers.TransformerDecoderLayer(16, 2, 32, 0.0, batch_first=True)

        def forward(self, x):
            causal = torch.full((x.shape[1],) * 2, -torch.inf).triu(1)
            y = self.words(x)
            memory = self.encoder(y, mask=causal, src_key_padding_mask=x == 0)
            return self.decoder(y, memory, tgt_mask=causal, memory_key_padding_mask=x == 0)

    words = torch.randint(1, 20, (3, 7))
    words[0, -2:] = 0
    pictures = torch.randn(2, 3, 16, 16)
    return [(Vision(), pictures), (Recurrent(), words), (Hourglass(), pictures[:, :2]),
            (Masked(), words)]  # fmt: skip


@pytest.mark.parity
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("dynamo", [False, True])
def test_architectures_of_pytorch(tmp_path, dynamo):
    """By both of its exporters; and once more, as models of ours."""
    torch = pytest.importorskip("torch")
    torch.manual_seed(0)
    for k, (net, x) in enumerate(architectures(torch)):
        path = tmp_path / f"{k}.onnx"
        if dynamo and k == 3:
            continue  # PyTorch cannot: it looks at values of the mask
        how = {"dynamo": True, "verbose": False} if dynamo else {"dynamo": False}
        torch.onnx.export(net.eval(), (x,), str(path), **how)
        model = ft.from_onnx(path)
        wanted = net(x)
        wanted = [w.detach() for w in (wanted if isinstance(wanted, tuple) else (wanted,))]
        again = ft.from_onnx(ft.export(model)(jnp.asarray(x.numpy())).to_onnx())
        for run in (ft.jit(model), again):
            outs = ft.tree.leaves(run(x.numpy()))
            for got, want in zip(outs, wanted, strict=True):
                np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-5)


# ------------------------------------------------------------------------------ graphs by hand
def graph(nodes, inputs, outputs, initializers=(), functions=(), opset=21, imports=()):
    made = helper.make_graph(nodes, "g", inputs, outputs, list(initializers))
    opsets = [helper.make_opsetid("", opset), *imports]
    return helper.make_model(made, opset_imports=opsets, functions=list(functions), ir_version=10)


def info(name, kind=FLOAT, shape=("n",)):
    return helper.make_tensor_value_info(name, kind, shape)


def one(op, shape=("n",), **attributes):
    node = helper.make_node(op, ["x"], ["y"], name="here", **attributes)
    return graph([node], [info("x", shape=shape)], [info("y", shape=None)])


def test_functions_of_the_model_and_loops():
    """A function with an attribute; a loop with a known bound is a scan, else a while loop."""
    own = helper.make_opsetid("own", 1)
    scaled = helper.make_function(
        "own", "Scaled", ["a"], ["b"],
        [helper.make_node("Elu", ["a"], ["b"])], [helper.make_opsetid("", 21)], ["alpha"],
    )  # fmt: skip
    ref = onnx.AttributeProto(name="alpha", ref_attr_name="alpha", type=onnx.AttributeProto.FLOAT)
    scaled.node[0].attribute.append(ref)
    body = helper.make_graph(
        [
            helper.make_node("Identity", ["go"], ["again"]),
            helper.make_node("Mul", ["c", "half"], ["d"]),
            helper.make_node("Identity", ["d"], ["kept"]),
        ],
        "body",
        [info("k", INT64, []), info("go", TensorProto.BOOL, []), info("c")],
        [info("again", TensorProto.BOOL, []), info("d"), info("kept")],
    )
    half = numpy_helper.from_array(np.float32([0.5]), "half")
    nodes = [
        helper.make_node("Scaled", ["x"], ["s"], domain="own", alpha=2.0),
        helper.make_node("Loop", ["count", ""], ["last", "all"], body=body),
    ]
    nodes[1].input.append("s")
    proto = graph(
        nodes, [info("x"), info("count", INT64, [])], [info("last"), info("all", shape=None)],
        [half], [scaled], imports=[own],
    )  # fmt: skip
    model = ft.from_onnx(proto)
    x = jnp.array([1.0, -1.0])
    want = np.where(np.asarray(x) > 0, x, 2 * np.expm1(x))
    last, kept = ft.jit(lambda x: model(x, 3))(x)
    np.testing.assert_allclose(last, want / 8, rtol=1e-6)
    np.testing.assert_allclose(kept, [want / 2, want / 4, want / 8], rtol=1e-6)
    with pytest.raises(UnsupportedOnnx, match="node 1, Loop: its number of turns depends"):
        ft.jit(model)(x, jnp.asarray(3, "int64"))


def test_shapes_are_numbers_while_a_model_is_traced():
    nodes = [
        helper.make_node("Shape", ["x"], ["s"]),
        helper.make_node("Gather", ["s", "zero"], ["n"]),
        helper.make_node("Mul", ["n", "two"], ["n2"]),
        helper.make_node("Concat", ["n2", "rest"], ["shape"], axis=0),
        helper.make_node("Reshape", ["x", "shape"], ["y"]),
    ]
    made = [("zero", [0]), ("two", [2]), ("rest", [-1])]
    proto = graph(
        nodes, [info("x", shape=["n", 6])], [info("y", shape=None)],
        [numpy_helper.from_array(np.int64(v), k) for k, v in made],
    )  # fmt: skip
    model = ft.from_onnx(proto)
    for n in (1, 4):
        assert ft.jit(model)(jnp.ones((n, 6))).shape == (2 * n, 3)
    assert len(ft.make_jaxpr(model)(jnp.ones((2, 6))).jaxpr.eqns) == 1
    assert model.params == {}


def test_which_initializers_are_parameters():
    nodes = [helper.make_node("Mul", ["x", "w"], ["a"]), helper.make_node("Add", ["a", "c"], ["y"])]
    made = [
        numpy_helper.from_array(np.float32([2]), "w"),
        numpy_helper.from_array(np.float32(1), "c"),
    ]
    proto = graph(nodes, [info("x")], [info("y")], made)
    assert list(ft.from_onnx(proto).params) == ["w"]
    assert list(ft.from_onnx(proto, trainable=lambda name, x: True).params) == ["w", "c"]
    model = ft.from_onnx(proto)
    np.testing.assert_allclose(model.apply({"w": jnp.array([5.0])}, jnp.ones(2)), [6.0, 6.0])


def test_data_in_another_file(tmp_path):
    w = np.arange(6, dtype=np.float32)
    proto = graph(
        [helper.make_node("Add", ["x", "w"], ["y"])],
        [info("x")],
        [info("y")],
        [numpy_helper.from_array(w, "w")],
    )
    path = tmp_path / "m.onnx"
    onnx.save(proto, str(path), save_as_external_data=True, location="w.bin", size_threshold=0)
    np.testing.assert_allclose(ft.from_onnx(path)(jnp.zeros(6)), w)
    with pytest.raises(OnnxError, match="another file; give from_onnx the model's path"):
        ft.from_onnx(path.read_bytes())
    (tmp_path / "w.bin").write_bytes(b"short")
    with pytest.raises(OnnxError, match="ends before the data of 'w' do"):
        ft.from_onnx(path)
    proto = onnx.load(str(path), load_external_data=False)
    proto.graph.initializer[0].external_data[0].value = "../../etc/passwd"
    path.write_bytes(proto.SerializeToString())
    with pytest.raises(OnnxError, match="which is no file in"):
        ft.from_onnx(path)


# ------------------------------------------------------------------------------ bad input
def test_unknown_operators_are_named_with_what_to_do():
    proto = one("StringNormalizer")
    with pytest.raises(UnsupportedOnnx, match=r"node 0, StringNormalizer 'here': the operator"):
        ft.from_onnx(proto)
    node = helper.make_node("Fancy", ["x"], ["y"], domain="com.example", factor=3.0)
    imports = [helper.make_opsetid("com.example", 1)]
    proto = graph([node], [info("x")], [info("y")], imports=imports)
    with pytest.raises(NotImplementedError, match=r"of the domain 'com.example', is not translat"):
        ft.from_onnx(proto)
    model = ft.from_onnx(proto, operators={"Fancy": lambda n, x: x * n.get("factor")})
    np.testing.assert_allclose(model(jnp.ones(2)), [3.0, 3.0])


def test_errors_of_nodes_name_them():
    model = ft.from_onnx(one("Softmax", axis=5))
    with pytest.raises(OnnxError, match=r"node 0, Softmax 'here': axis 5 is none of an array with"):
        model(jnp.ones(3))
    model = ft.from_onnx(one("Transpose", perm=[0, 0]))
    with pytest.raises(OnnxError, match=r"node 0, Transpose 'here' of float32\[3\]"):
        model(jnp.ones(3))
    with pytest.raises(TypeError, match="takes x; missing: x; not expected: z"):
        model(z=1)
    old = one("Relu")
    old.opset_import[0].version = 99
    with pytest.raises(UnsupportedOnnx, match="version 99 of the operators; the installed onnx"):
        ft.from_onnx(old)


def test_functions_that_call_themselves_or_explode_are_refused():
    def doubled(name, inner, domain="own"):
        nodes = [
            helper.make_node(inner, ["a"], ["m"], domain=domain),
            helper.make_node(inner, ["m"], ["b"], domain=domain),
        ]
        imports = [helper.make_opsetid("", 21), helper.make_opsetid("own", 1)]
        return helper.make_function("own", name, ["a"], ["b"], nodes, imports)

    def model(functions, first):
        node = helper.make_node(first, ["x"], ["y"], domain="own")
        imports = [helper.make_opsetid("own", 1)]
        return graph([node], [info("x")], [info("y")], functions=functions, imports=imports)

    with pytest.raises(OnnxError, match="the function F of the model calls itself"):
        ft.from_onnx(model([doubled("F", "F")], "F"))
    chain = [doubled(f"F{k}", f"F{k + 1}") for k in range(40)] + [doubled("F40", "Relu", "")]
    with pytest.raises(OnnxError, match="stand for more than 1000000 nodes"):
        ft.from_onnx(model(chain, "F0"))


def test_tensors_that_lie_about_themselves_are_refused():
    proto = graph([helper.make_node("Add", ["x", "w"], ["y"])], [info("x")], [info("y")])
    t = proto.graph.initializer.add(name="w", data_type=FLOAT, dims=[1 << 40, 1 << 20])
    t.raw_data = b"1234"
    with pytest.raises(OnnxError, match="has 4 bytes or numbers of data, and needs"):
        ft.from_onnx(proto)
    s = proto.graph.sparse_initializer.add(dims=[1 << 40])
    del proto.graph.initializer[:]
    s.values.CopyFrom(numpy_helper.from_array(np.float32([1]), "w"))
    s.indices.CopyFrom(numpy_helper.from_array(np.int64([0]), "i"))
    with pytest.raises(OnnxError, match="stands for an array of shape"):
        ft.from_onnx(proto)


def test_damaged_files_are_errors_or_models():
    """Whatever a byte becomes, there is an error of ours or a model, which runs or says why not."""
    data = ft.export(network())(ft.ShapeDtypeStruct((2, 1, 8, 8), "float32"))
    data = data.to_onnx().SerializeToString()
    rng = np.random.default_rng(0)
    for cut in (0, 1, 5, 100, len(data) // 2, len(data) - 1):
        with pytest.raises((OnnxError, ValueError)):
            ft.from_onnx(data[:cut])
    x = jnp.ones((2, 1, 8, 8))
    refused = 0
    for place in rng.integers(0, len(data), 150):
        flipped = bytearray(data)
        flipped[place] ^= 1 << int(rng.integers(8))
        try:
            model = ft.from_onnx(bytes(flipped))
            ft.eval_shape(model, x)
        except (OnnxError, TypeError):
            refused += 1
    assert refused > 5
    with pytest.raises(FileNotFoundError):
        ft.from_onnx("no such file.onnx")


def test_models_changed_at_random_are_errors_or_run():
    """Fields of nodes and tensors are exchanged, removed and made huge."""
    pick = random.Random(0)
    data = ft.export(network())(ft.ShapeDtypeStruct((2, 1, 8, 8), "float32"))
    data = data.to_onnx().SerializeToString()
    x, refused = jnp.ones((2, 1, 8, 8)), 0
    for _ in range(120):
        proto = onnx.ModelProto.FromString(data)
        node = pick.choice(list(proto.graph.node))
        t = pick.choice(list(proto.graph.initializer))
        change = pick.randrange(6)
        if change == 0:
            node.op_type = pick.choice(["Loop", "Pad", "Resize", "Conv", "Expand", "Range", "LSTM"])
        elif change == 1:
            pick.choice(list(proto.graph.node)).input[:] = node.input
        elif change == 2:
            t.dims.append(pick.choice([-1, 0, 1, 1 << 40, 1 << 62]))
        elif change == 3:
            t.data_type = pick.randrange(30)
        elif change == 4:
            proto.opset_import[0].version = pick.choice([-1, 0, 1, 9, 99, 1 << 40])
        for attribute in node.attribute if change == 5 else ():
            attribute.ints[:] = [pick.choice([-5, 0, 1, 1 << 62]) for _ in attribute.ints]
            attribute.i = pick.choice([-5, 0, 1, 1 << 62])
        try:
            ft.eval_shape(ft.from_onnx(proto.SerializeToString()), x)
        except (OnnxError, TypeError):
            refused += 1
    assert 60 < refused < 120


def test_loops_inside_of_loops_share_a_number_of_turns(monkeypatch):
    monkeypatch.setattr(control, "_UNROLLED", 500)

    def body(nodes, out):
        takes = [info("i", 7, []), info("c", 9, []), info("v", FLOAT, None)]
        return helper.make_graph(nodes, "b", takes, [info("c", 9, []), info(out, FLOAT, None)])

    inner = body([helper.make_node("Concat", ["v", "x"], ["w"], axis=0)], "w")
    middle = [helper.make_node("Loop", ["m", "", "x"], ["w"], body=inner)]
    node = helper.make_node("Loop", ["m", "", "x"], ["y"], body=body(middle, "w"))
    turns = [numpy_helper.from_array(np.int64(100), "m")]
    model = ft.from_onnx(graph([node], [info("x")], [info("y")], turns))
    with pytest.raises(OnnxError, match="loops run more than 500 turns one by one"):
        model(jnp.ones(0))
