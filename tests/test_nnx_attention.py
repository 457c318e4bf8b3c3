"""Attention: masks, tiles, memory, caches, positions; transformers in training; mistakes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from layer_reference import numbers

import funtorch as ft
import funtorch.numpy as fnp
import funtorch.transforms.attention as tiling
from funtorch import nnx, random
from funtorch.nnx import attention

KEY = random.key(0)
Q, K, V = numbers((2, 4, 7, 8), 0), numbers((2, 4, 5, 8), 1), numbers((2, 4, 5, 6), 2)
MASK = numbers((7, 5), 3)
CASES: dict[str, tuple[Any, ...]] = {
    "plain": (Q, K, V, {}),
    "matrices": (Q[0, 0], K[0, 0], V[0, 0], {"scale": 0.3}),
    "causal": (Q, Q, Q, {"is_causal": True}),
    "causal of other lengths": (Q, K, V, {"is_causal": True}),
    "bool mask": (Q, K, V, {"attn_mask": MASK > 0}),
    "mask of rows": (Q, K, V, {"attn_mask": numbers((2, 1, 1, 5), 4) > 0}),
    "mask of heads": (Q, K, V, {"attn_mask": numbers((4, 7, 1), 4)}),
    "added mask": (Q, K, V, {"attn_mask": numbers((2, 4, 7, 5), 4)}),
    "grouped": (Q, K[:, :2], V[:, :2], {"enable_gqa": True}),
    "grouped mask": (Q, K[:, :2], V[:, :2], {"enable_gqa": True, "attn_mask": MASK > 0}),
    "grouped mask of heads": (
        Q, K[:, :2], V[:, :2], {"enable_gqa": True, "attn_mask": numbers((4, 7, 5), 4)}),
}  # fmt: skip


def by_definition(q: Any, k: Any, v: Any, attn_mask: Any = None, scale: Any = None,
                  is_causal: bool = False, enable_gqa: bool = False) -> Any:  # fmt: skip
    if enable_gqa:
        k, v = (np.repeat(x, q.shape[-3] // x.shape[-3], -3) for x in (k, v))
    logits = q @ np.swapaxes(k, -1, -2) * (q.shape[-1] ** -0.5 if scale is None else scale)
    logits = logits.astype(np.float64)
    if is_causal:
        logits = np.where(np.tril(np.ones(logits.shape[-2:], bool)), logits, -np.inf)
    if attn_mask is not None:
        added = np.where(attn_mask, 0, -np.inf) if attn_mask.dtype == bool else attn_mask
        logits = logits + added
    with np.errstate(invalid="ignore"):
        weights = np.exp(logits - logits.max(-1, keepdims=True))
        return np.nan_to_num(weights / weights.sum(-1, keepdims=True)) @ v


@pytest.fixture(params=["whole", "tiles"])
def tiles(request: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param == "tiles":
        monkeypatch.setattr(attention, "_MOST_PAIRS", 30)
        monkeypatch.setattr(attention, "_LEAST_ROWS", 3)
        monkeypatch.setattr(tiling, "MOST_PAIRS", 30)
        monkeypatch.setattr(tiling, "LEAST_ROWS", 3)


@pytest.mark.usefixtures("tiles")
@pytest.mark.parametrize("name", CASES)
def test_attention_is_its_definition(name: str) -> None:
    q, k, v, options = CASES[name]
    y = nnx.scaled_dot_product_attention(q, k, v, **options)
    np.testing.assert_allclose(y, by_definition(q, k, v, **options), rtol=1e-4, atol=1e-5)


@pytest.mark.usefixtures("tiles")
@pytest.mark.parametrize("name", CASES)
def test_attention_and_its_gradients_are_those_of_torch(name: str) -> None:
    torch = pytest.importorskip("torch", reason="compares with PyTorch")
    q, k, v, options = CASES[name]
    theirs_in = [torch.tensor(x, requires_grad=True) for x in (q, k, v)]
    given = {n: torch.tensor(x) if isinstance(x, np.ndarray) else x for n, x in options.items()}
    mask = given.get("attn_mask")
    floats = mask is not None and mask.is_floating_point()
    if floats:
        theirs_in.append(mask.requires_grad_())
    theirs = torch.nn.functional.scaled_dot_product_attention(*theirs_in[:3], **given)
    theirs.square().sum().backward()

    def cost(q: Any, k: Any, v: Any, mask: Any) -> Any:
        options_now = {**options, "attn_mask": mask}
        return (nnx.scaled_dot_product_attention(q, k, v, **options_now) ** 2).sum()

    mask = options.get("attn_mask")
    ours = ft.jit(ft.grad(cost, (0, 1, 2, 3)[: len(theirs_in)]))(q, k, v, mask)
    for got, want in zip(ours, theirs_in, strict=True):
        np.testing.assert_allclose(got, want.grad, rtol=1e-4, atol=2e-5)


@pytest.mark.usefixtures("tiles")
def test_attention_under_vmap_and_twice_differentiated() -> None:
    def cost(q: Any) -> Any:
        return (nnx.scaled_dot_product_attention(q, K[0], V[0], is_causal=True) ** 2).sum()

    each = [ft.hvp(cost, (q,), (fnp.cos(q),)) for q in Q]
    got = ft.jit(ft.vmap(lambda q: ft.hvp(cost, (q,), (fnp.cos(q),))))(Q)
    np.testing.assert_allclose(got, np.stack(each), rtol=1e-3, atol=1e-4)
    step = 1e-4
    q = np.float64(Q[0])
    ends = (ft.grad(cost)(q + sign * step * np.cos(q)) for sign in (1, -1))
    slope = (next(ends) - next(ends)) / (2 * step)
    np.testing.assert_allclose(got[0], slope, rtol=1e-3, atol=1e-3)


@pytest.mark.usefixtures("tiles")
@pytest.mark.parametrize("mask", [np.zeros((7, 5), bool), np.full((7, 5), -np.inf, "f4")])
def test_who_sees_nothing_gives_zero(mask: np.ndarray) -> None:
    mask = mask.copy()
    mask[1:] = not mask[0, 0] if mask.dtype == bool else 0

    def run(q: Any) -> Any:
        return nnx.scaled_dot_product_attention(q, K, V, mask)

    assert bool((run(Q)[:, :, 0] == 0).all())
    g = ft.grad(lambda q: (run(q) ** 2).sum())(Q)
    assert bool(fnp.isfinite(g).all() & (g[:, :, 0] == 0).all())


def test_nan_is_not_hidden_by_tiles(tiles: None) -> None:
    q = Q.copy()
    q[0, 0, 4] = np.nan
    y = nnx.scaled_dot_product_attention(q, K, V)
    assert bool(fnp.isnan(y[0, 0, 4]).all())
    assert int(fnp.isnan(y).sum()) == 6


@pytest.mark.usefixtures("tiles")
def test_dropout_of_weights() -> None:
    v = fnp.broadcast_to(fnp.eye(50), (2, 40, 50, 50))
    y = nnx.scaled_dot_product_attention(
        fnp.zeros((2, 40, 30, 8)), fnp.zeros((2, 40, 50, 8)), v, dropout_p=0.25, dropout_key=KEY
    )
    kept = np.asarray(y) > 0
    assert abs(kept.mean() - 0.75) < 0.01
    np.testing.assert_allclose(y[kept], 1 / 50 / 0.75, rtol=1e-5)
    assert len({row.tobytes() for row in kept.reshape(-1, 50)}) > 2000  # no two rows alike


def peak(f: Any, *args: Any) -> int:
    return ft.jit(f).lower(*args).compile().memory_analysis().peak_memory_in_bytes


def test_memory_grows_with_the_length_not_with_its_square() -> None:
    def cost(q: Any, k: Any, v: Any) -> Any:
        return nnx.scaled_dot_product_attention(q, k, v, is_causal=True).sum()

    peaks = []
    for length in (8192, 16384):
        args = [ft.ShapeDtypeStruct((1, 1, length, 8), fnp.float32)] * 3
        both = [peak(f, *args) for f in (cost, ft.grad(cost, (0, 1, 2)))]
        assert max(both) < length * length * 4 / 8
        peaks.append(both)
    for short, long in zip(*peaks, strict=True):
        assert long < 2.2 * short


def test_layer_without_weights_needs_no_matrix_of_pairs() -> None:
    layer = nnx.MultiheadAttention(8, 1, key=KEY)
    x = ft.ShapeDtypeStruct((8192, 1, 8), fnp.float32)
    run = peak(ft.grad(lambda x: layer(x, x, x, need_weights=False)[0].sum()), x)
    assert run < 8192 * 8192 * 4 / 8


# ------------------------------------------------------------------------------------ the layer
X = numbers((2, 6, 8), 5)
MODERN = nnx.MultiheadAttention(8, 4, num_kv_heads=2, rotary_base=1e4, batch_first=True, key=KEY)


def test_cache_gives_what_the_whole_sequence_gives_and_compiles_once() -> None:
    whole, _ = MODERN(X, X, X, is_causal=True)
    step = ft.jit(lambda layer, x, cache: layer(x, x, x, cache=cache, is_causal=True))
    y, cache = MODERN(X[:, :3], X[:, :3], X[:, :3], cache=MODERN.init_cache(2, 9), is_causal=True)
    ys = [y]
    for k in range(3, 6):
        y, cache = step(MODERN, X[:, k : k + 1], cache)
        ys.append(y)
    np.testing.assert_allclose(fnp.concatenate(ys, 1), whole, rtol=1e-4, atol=1e-5)
    assert len(step.stats().compiles) == 1
    assert int(cache.position) == 6


def test_caches_of_int8_give_nearly_the_same_in_a_quarter_of_the_memory() -> None:
    x = numbers((2, 6, 64), 7)
    layer = nnx.MultiheadAttention(64, 2, rotary_base=1e4, batch_first=True, key=KEY)
    whole, _ = layer(x, x, x, is_causal=True)
    step = ft.jit(lambda layer, x, cache: layer(x, x, x, cache=cache, is_causal=True))
    cache, ys = layer.init_cache(2, 9, "int8"), []
    for k in range(6):
        y, cache = step(layer, x[:, k : k + 1], cache)
        ys.append(y)
    assert cache.key.dtype == cache.value.dtype == np.int8
    assert cache.scales[0].shape == (2, 2, 9, 1)
    assert len(step.stats().compiles) == 1
    size = lambda cache: sum(x.nbytes for x in ft.tree.leaves(cache))
    assert size(layer.init_cache(2, 9)) > 3.5 * size(cache)
    error = float(abs(fnp.concatenate(ys, 1) - whole).max())
    assert 0 < error < 0.01 * float(abs(whole).max())
    eager, _ = layer(x, x, x, cache=layer.init_cache(2, 9, "int8"), is_causal=True)
    np.testing.assert_allclose(eager, fnp.concatenate(ys, 1), atol=1e-5)


def test_cache_without_causality_sees_the_whole_prompt() -> None:
    whole, _ = MODERN(X, X, X)
    y, _ = MODERN(X, X, X, cache=MODERN.init_cache(2, 9))
    np.testing.assert_allclose(y, whole, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("batch_first", [False, True])
def test_transformers_with_a_cache_give_what_they_give_without(batch_first: bool) -> None:
    model = nnx.Transformer(8, 2, 2, 2, 10, batch_first=batch_first, key=KEY)
    src, tgt = (x if batch_first else x.swapaxes(0, 1) for x in (X, numbers((2, 5, 8), 6)))
    padding = np.arange(6) >= np.array([[6], [4]])

    def cut(x: Any, start: int, stop: int) -> Any:
        return x[:, start:stop] if batch_first else x[start:stop]

    axis = 1 if batch_first else 0
    want = model.encoder(src, is_causal=True)
    first, cache = model.encoder(
        cut(src, 0, 4), is_causal=True, cache=model.encoder.init_cache(2, 7)
    )
    last, cache = model.encoder(cut(src, 4, 6), is_causal=True, cache=cache)
    got = fnp.concatenate([first, last], axis)
    np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-5)

    memory = model.encoder(src, src_key_padding_mask=padding)
    masks = {"memory_key_padding_mask": padding}
    want = model.decoder(tgt, memory, tgt_is_causal=True, **masks)
    step = ft.jit(lambda m, x, cache: m.decoder(x, None, cache=cache, **masks))
    cache, ys = model.decoder.init_cache(memory, 7), []
    for k in range(5):
        y, cache = step(model, cut(tgt, k, k + 1), cache)
        ys.append(y)
    np.testing.assert_allclose(fnp.concatenate(ys, axis), want, rtol=1e-4, atol=1e-5)
    assert len(step.stats().compiles) == 1


@pytest.mark.parametrize("options", [{}, {"kdim": 6, "vdim": 5}, {"add_bias_kv": True}], ids=str)
def test_a_memory_that_is_kept_is_the_memory(options: dict[str, Any]) -> None:
    layer = nnx.MultiheadAttention(8, 4, num_kv_heads=2, key=KEY, **options)
    k, v = numbers((7, 2, layer.kdim), 7), numbers((7, 2, layer.vdim), 8)
    query = X.swapaxes(0, 1)
    want, _ = layer(query, k, v, need_weights=False)
    got, kept = layer(query, None, None, cache=layer.cache_of(k, v))
    np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-5)
    assert int(kept.position) == 7
    single, _ = layer(query[:, 1], None, None, cache=layer.cache_of(k[:, 1], v[:, 1]))
    np.testing.assert_allclose(single, want[:, 1], rtol=1e-4, atol=1e-5)
    # Places that are not filled yet are not seen.
    room = [fnp.pad(x, [(0, 0)] * 2 + [(0, 3), (0, 0)], constant_values=9) for x in kept[:2]]
    part, _ = layer(query, None, None, cache=kept._replace(key=room[0], value=room[1]))
    np.testing.assert_allclose(part, want, rtol=1e-4, atol=1e-5)


def test_grouped_queries_are_heads_repeated() -> None:
    layer = nnx.MultiheadAttention(8, 4, num_kv_heads=2, batch_first=True, key=KEY)
    w = layer.in_proj_weight
    assert w.shape == (16, 8)
    k, v = (
        fnp.repeat(part.reshape(2, 2, 8), 2, axis=0).reshape(8, 8) for part in (w[8:12], w[12:])
    )
    full = nnx.MultiheadAttention(8, 4, batch_first=True, key=KEY).replace(
        in_proj_weight=fnp.concatenate([w[:8], k, v]), out_proj=layer.out_proj
    )
    for got, want in zip(layer(X, X, X), full(X, X, X), strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("interleaved", [False, True])
def test_rotated_products_depend_on_distances(interleaved: bool) -> None:
    x = numbers((2, 1, 8), 0)

    def product(a: int, b: int) -> float:
        turned = [
            nnx.rotary_embedding(x[i], fnp.array([p]), interleaved=interleaved)
            for i, p in enumerate((a, b))
        ]
        return float((turned[0] * turned[1]).sum())

    assert abs(product(3, 5) - product(13, 15)) < 1e-4
    assert abs(product(3, 5) - product(3, 6)) > 1e-2
    y = nnx.rotary_embedding(X, interleaved=interleaved)
    np.testing.assert_allclose((y**2).sum(-1), (X**2).sum(-1), rtol=1e-5)
    np.testing.assert_array_equal(y[:, 0], X[:, 0])
    angles = np.arange(6)[:, None] * 10000.0 ** (-np.arange(4) / 4)
    pairs = X.reshape(2, 6, 4, 2) if interleaved else X.reshape(2, 6, 2, 4).swapaxes(-1, -2)
    want = (pairs[..., 0] + 1j * pairs[..., 1]) * np.exp(1j * angles)
    first = y[..., ::2] if interleaved else y[..., :4]
    np.testing.assert_allclose(first, want.real, rtol=1e-4, atol=1e-5)


def test_masks_are_those_of_flax() -> None:
    a = nnx.make_attention_mask(fnp.array([[1, 0]]), fnp.array([[1, 1, 0]]))
    np.testing.assert_array_equal(a, [[[[1, 1, 0], [0, 0, 0]]]])
    assert a.dtype == fnp.float32
    causal = nnx.make_causal_mask(fnp.zeros((2, 3)), dtype=bool)
    np.testing.assert_array_equal(causal, np.tril(np.ones((2, 1, 3, 3), bool)))
    assert nnx.combine_masks(None) is None
    with pytest.raises(ValueError, match=r"same rank; it was given shapes \(3,\), \(1, 3\)"):
        nnx.combine_masks(fnp.ones(3), fnp.ones((1, 3)))
    y = nnx.scaled_dot_product_attention(X, X, X, nnx.make_causal_mask(X[0, :, 0], bool)[0])
    np.testing.assert_allclose(y, nnx.scaled_dot_product_attention(X, X, X, is_causal=True))


# --------------------------------------------------------------------------------- transformers
def test_is_causal_is_the_mask() -> None:
    model = nnx.Transformer(8, 2, 1, 2, 10, batch_first=True, key=KEY)
    later = np.triu(np.ones((6, 6), bool), 1)
    want = model(X, X, tgt_mask=later)
    np.testing.assert_allclose(model(X, X, tgt_is_causal=True), want, rtol=1e-5, atol=1e-5)
    added = nnx.Transformer.generate_square_subsequent_mask(6)
    np.testing.assert_allclose(model(X, X, tgt_mask=added), want, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("need_weights", [False, True])
@pytest.mark.parametrize("options", [{}, {"add_bias_kv": True, "add_zero_attn": True}], ids=str)
def test_layer_is_causal_is_the_mask(options: dict[str, bool], need_weights: bool) -> None:
    layer = nnx.MultiheadAttention(8, 2, batch_first=True, **options, key=KEY)
    later = np.triu(np.ones((6, 6), bool), 1)
    got = layer(X, X, X, need_weights=need_weights, is_causal=True)
    want = layer(X, X, X, need_weights=need_weights, attn_mask=later)
    for a, b in zip(got[: 1 + need_weights], want, strict=False):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


def test_transformer_drops_in_training() -> None:
    model = nnx.Transformer(8, 2, 2, 1, 10, 0.2, key=KEY)
    y, again = nnx.train(model, random.key(1))(X, X)
    z, _ = ft.jit(lambda m, key: nnx.train(m, key)(X, X))(model, random.key(1))
    np.testing.assert_allclose(y, z, rtol=1e-4, atol=1e-5)
    assert not np.allclose(y, model(X, X))
    assert ft.tree.structure(again) == ft.tree.structure(model)
    # Of attention alone: without its dropout nothing is dropped.
    layer = nnx.MultiheadAttention(8, 2, 0.5, key=KEY)
    trained, _ = nnx.train(layer, KEY)(X, X, X)
    assert bool((trained[1] == 0).any())
    assert not bool((layer(X, X, X)[1] == 0).any())


def test_copies_of_a_layer() -> None:
    layer = nnx.TransformerEncoderLayer(8, 2, 10, key=KEY)
    equal = nnx.TransformerEncoder(layer, 2)
    np.testing.assert_array_equal(equal.layers[0].linear1.weight, equal.layers[1].linear1.weight)
    drawn = nnx.TransformerEncoder(layer, 2, nnx.LayerNorm(8), key=KEY)
    weights = [part.linear1.weight for part in drawn.layers]
    assert not np.allclose(*weights)
    assert float(abs(weights[0]).max()) <= np.sqrt(6 / 18)


def test_positions_are_sines() -> None:
    x = fnp.zeros((9, 2, 6))
    y = nnx.PositionalEncoding(6)(x)
    np.testing.assert_allclose(y[:, 0, 2], np.sin(np.arange(9) / 10000 ** (2 / 6)), atol=1e-5)
    np.testing.assert_allclose(y[:, 1, 5], np.cos(np.arange(9) / 10000 ** (4 / 6)), atol=1e-5)
    later = ft.jit(lambda x, start: nnx.PositionalEncoding(6)(x, start))(x[4:], 4)
    np.testing.assert_allclose(later, y[4:], atol=1e-6)
    first = nnx.PositionalEncoding(6, batch_first=True)(x.swapaxes(0, 1))
    np.testing.assert_array_equal(first.swapaxes(0, 1), y)


MODEL = nnx.TransformerEncoder(nnx.TransformerEncoderLayer(8, 2, 10, key=KEY), 2)
PLAIN = nnx.MultiheadAttention(8, 2, key=KEY)
sdpa = nnx.scaled_dot_product_attention
MISTAKES = {
    "size": (lambda: MODEL(X[..., :4]), r"^layers\.0\.self_attn: MultiheadAttention\(embed_dim=8.*"
             r"takes query \(length, batch, 8\).*given query \(2, 6, 4\)"),
    "attn_mask": (lambda: MODEL(X, np.zeros((3, 3))), r"^layers\.0\.self_attn: .*takes attn_mask "
                  r"of shape \(2, 2\) or \(12, 2, 2\); it was given \(3, 3\)"),
    "padding": (lambda: MODEL(X, None, np.zeros((3, 3), bool)), r"^layers\.0\.self_attn: .*"
                r"key_padding_mask of shape \(6, 2\); it was given \(3, 3\)"),
    "heads": (lambda: nnx.MultiheadAttention(8, 3, key=KEY), "embed_dim=8, num_heads=3"),
    "groups": (lambda: nnx.MultiheadAttention(8, 4, num_kv_heads=3, key=KEY), "num_kv_heads=3"),
    "full": (lambda: MODERN(X, X, X, cache=MODERN.init_cache(2, 5)), "of 2 sequences of 5 "
             "positions, of which 0 are taken, and 2 sequences of 6 more"),
    "kept": (lambda: MODERN(X, None, None, cache=MODERN.cache_of(X, X)), "key=None and value=None "
             "neither with is_causal=True nor with rotary_base"),
    "kept batch": (lambda: PLAIN(X.swapaxes(0, 1), None, None, cache=PLAIN.cache_of(X, X)),
                   "a cache of 6 sequences, and 2 sequences of queries"),
    "caches": (lambda: MODEL(X, cache=MODEL.init_cache(6, 9)[:1]), "TransformerEncoder takes a "
               "cache as its init_cache makes it, .* its 2 layers; it was given 1 caches"),
    "one cache": (lambda: MODEL(X, cache=PLAIN.init_cache(6, 9)), "2 layers; it was given KVCache"),
    "memory": (lambda: PLAIN.cache_of(X, X[:1]), r"value \(1, 6, 8\)"),
    "activation": (lambda: nnx.TransformerEncoderLayer(8, 2, activation="x", key=KEY),
                   "TransformerEncoderLayer takes activation 'relu', 'gelu' or a function.*'x'"),
    "odd": (lambda: nnx.rotary_embedding(X[..., :3]), r"even size; .* \(2, 6, 3\)"),
    "keys": (lambda: sdpa(Q, K[..., :4], V), r"key \(\.\.\., S, E\).*key \(2, 4, 5, 4\)"),
    "grouping": (lambda: sdpa(Q, K[:, :3], V[:, :3], enable_gqa=True), "a multiple of them of"),
    "mask": (lambda: sdpa(Q, K, V, MASK.T), r"attn_mask \(5, 7\), which must broadcast to \(.*7"),
    "key": (lambda: sdpa(Q, K, V, dropout_p=0.5), r"dropout_key=random.key\(\.\.\.\)"),
    "positions": (lambda: nnx.PositionalEncoding(6)(X), r"\(length, batch, 6\).*shape \(2, 6, 8\)"),
}  # fmt: skip


@pytest.mark.parametrize("name", MISTAKES)
def test_mistakes(name: str) -> None:
    call, text = MISTAKES[name]
    with pytest.raises(ValueError, match=text):
        call()


def test_integers_are_no_mask() -> None:
    with pytest.raises(TypeError, match=r"takes attn_mask of bools.*given int32 of shape \(7, 5\)"):
        sdpa(Q, K, V, np.int32(MASK > 0))
    with pytest.raises(
        TypeError, match=r"^layers\.0\.self_attn: .*takes key_padding_mask of bools"
    ):
        MODEL(X, None, np.zeros((6, 2), np.int32))


def test_what_is_no_cache_and_no_memory() -> None:
    layer = nnx.TransformerDecoderLayer(8, 2, 10, key=KEY)
    with pytest.raises(TypeError, match=r"takes a memory, .* memory None, cache None"):
        layer(X, None)
    with pytest.raises(TypeError, match=r"takes a memory, .* memory None, cache KVCache"):
        layer(X, None, cache=PLAIN.init_cache(6, 9))
    with pytest.raises(TypeError, match=r"takes a key and a value; or None for both, and a cache"):
        PLAIN(X, None, X, cache=PLAIN.init_cache(6, 9))
    with pytest.raises(TypeError, match=r"a cache that its init_cache or cache_of .* given tuple"):
        PLAIN(X, X, X, cache=(X, X, 0))


def test_a_full_cache_gives_nan_where_nothing_can_be_raised() -> None:
    step = ft.jit(lambda x, cache: PLAIN(x, x, x, cache=cache))
    y, cache = step(X, PLAIN.init_cache(6, 3))
    assert bool(fnp.isfinite(y).all())
    assert bool(fnp.isnan(step(X, cache)[0]).all())


def test_attention_of_nothing() -> None:
    empty = fnp.ones((2, 3, 0, 4))
    for causal in (False, True):
        y = sdpa(fnp.ones((2, 3, 5, 4)), empty, empty, is_causal=causal)
        assert y.shape == (2, 3, 5, 4)
        assert bool((y == 0).all())
        assert sdpa(empty, empty, empty, is_causal=causal).shape == empty.shape
    nobody = fnp.ones((0, 3, 5, 4))
    assert sdpa(nobody, nobody, nobody, enable_gqa=True).shape == nobody.shape
