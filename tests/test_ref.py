"""Mutable references, and where they end."""

import numpy as np
import pytest

import funtorch as ft
import funtorch.numpy as fnp
from funtorch import ref as refs


def edited(x):
    r = ft.new_ref(x)
    r[0] = 5.0
    r[1:] += 1
    refs.addupdate(r, fnp.array([2, 2]), 1.0)
    before = refs.swap(r, 1, 7.0)
    refs.set(r, 0, r.get()[0] + before)
    return ft.freeze(r)


def test_references_under_transforms():
    x = np.array([1.0, 2.0, 3.0])
    assert edited(x).tolist() == ft.jit(edited)(x).tolist() == [8, 7, 6]
    assert ft.vmap(edited)(np.stack([x, x + 1])).tolist() == [[8, 7, 6], [9, 7, 7]]
    slopes = ft.grad(lambda x: (edited(x) * np.array([2.0, 3.0, 5.0])).sum())
    assert slopes(x).tolist() == ft.jit(slopes)(x).tolist() == [0, 2, 5]
    assert x.tolist() == [1, 2, 3]


def test_a_reference_knows_its_type():
    r = ft.empty_ref((2, 3), "int32")
    assert (r.shape, r.dtype, r.ndim, r.size, len(r)) == ((2, 3), np.int32, 2, 6, 2)
    r.set(2.7)
    assert r[...].dtype == np.int32
    assert r[1, 2] == 2
    assert repr(r) == "Ref([[2, 2, 2],\n       [2, 2, 2]], dtype=int32)"
    assert not ft.new_ref(1.0)[...].weak_type
    assert isinstance(r, ft.Ref)


def test_references_end():
    r = ft.new_ref(np.zeros(2))
    ft.free_ref(r)
    for use in (lambda: r[...], lambda: r.set(1.0), lambda: ft.freeze(r)):
        with pytest.raises(ValueError, match="was frozen or freed: make a new one with new_ref"):
            use()


def test_functions_that_are_transformed_use_outer_references():
    r, n = ft.new_ref(np.zeros(4, np.float32)), ft.new_ref(0)

    @ft.jit
    def add(i, x):
        r[i] += x
        n[...] += 1

    for k in range(3):  # the second call runs the program of the first
        add(k, 2.0)
    assert (r[...].tolist(), int(n[...])) == ([2, 2, 2, 0], 3)

    def step(carry, i):
        r[i] += carry
        return carry + 1, r[0]

    assert ft.lax.scan(step, 1.0, np.array([3, 3, 0]))[1].tolist() == [2, 2, 5]
    assert r[...].tolist() == [5, 2, 2, 3]
    jitted = ft.jit(lambda: ft.lax.scan(step, 1.0, np.array([1]))[0])
    assert (float(jitted()), float(jitted()), r[...].tolist()) == (2, 2, [5, 4, 2, 3])
    ft.lax.fori_loop(0, 2, lambda i, _: add(i, -1.0), None)
    assert ft.lax.while_loop(lambda i: n[...] < 7, lambda i: (add(0, 0.0), i + 1)[1], 0) == 2
    assert (r[...].tolist(), int(n[...])) == ([4, 3, 2, 3], 7)

    def put(x, ref):
        ref[3] = x

    ft.lax.cond(True, put, lambda x, ref: None, 9.0, r)
    ft.lax.switch(1, [lambda: None, lambda: put(r[0], n if False else r)])
    assert r[...].tolist() == [4, 3, 2, 4]
    assert ft.make_jaxpr(lambda ref: ref[0])(r).out_avals[0].shape == ()
    assert float(ft.checkpoint(lambda ref, x: ref[0] * x)(r, 2.0)) == 8
    assert repr(ft.eval_shape(lambda: r[...])) == "ShapeDtypeStruct(shape=(4,), dtype=float32)"


def test_lanes_have_their_entries_or_share():
    r, m = ft.new_ref(2.0), ft.new_ref(np.zeros((2, 3), np.float32))

    def run(x, ref):
        ft.lax.scan(lambda c, i: (c + r[...], ref.set(ref[...].at[i].add(c))), x, np.arange(2))

    ft.vmap(run, in_axes=(0, 1))(np.arange(3.0, dtype=np.float32), m)
    assert m[...].tolist() == [[0, 1, 2], [2, 3, 4]]
    with pytest.raises(
        ValueError, match=r"write different values into one Ref.*make the Ref an ar"
    ):
        ft.vmap(lambda x: r.set(x))(np.ones(3))
    ft.vmap(lambda x: (r.set(5.0), x)[1])(np.ones(3))
    assert float(r[...]) == 5


def test_derivatives_beside_references():
    r, seen = ft.new_ref(1.0), ft.new_ref(0.0)

    def f(x, ref):
        ref[...] += ft.lax.stop_gradient(2 * x)
        return ref[...] * x

    assert (float(ft.grad(f)(3.0, r)), float(r[...])) == (7, 7)
    assert float(ft.jit(ft.grad(f))(3.0, r)) == float(r[...]) == 13
    assert float(ft.jvp(lambda x: f(x, r), (0.0,), (1.0,))[1]) == 13
    with pytest.raises(ValueError, match=r"writes what depends on its differentiated.*stop_grad"):
        ft.grad(lambda x: (r.set(x), x)[1])(1.0)

    @ft.custom_vjp
    def stash(ref, x):
        return x

    def back(ref, ct):
        ref[...] = ct
        return None, ct

    stash.defvjp(lambda ref, x: (x, ref), back)
    for transform in (ft.grad, lambda g: ft.jit(ft.grad(g))):
        slope = transform(lambda x, ref: fnp.sin(stash(ref, 2 * x)))
        assert np.allclose(slope(0.5, seen), 2 * np.cos(1.0))
        assert np.allclose(seen[...], np.cos(1.0))
        seen[...] = 0.0


def test_gradients_go_into_references():
    x = ft.new_ref(2.0)
    _, back = ft.vjp(lambda ref: (ref.set(fnp.sin(ref[...])), ref[...] ** 2)[1], x)
    assert np.allclose(x[...], np.sin(2.0))
    total = ft.new_ref(0.0)
    assert back.with_refs(total)(1.0) == (ft.ad.GradRef(),)
    assert np.allclose(total[...], 2 * np.sin(2.0) * np.cos(2.0))
    with pytest.raises(
        ValueError, match=r"must be accumulated into a ref, so bind one with `with_r"
    ):
        back(1.0)
    rows = ft.new_ref(np.zeros(4, np.float32))
    for i in (1, 3, 1):
        _, back = ft.vjp(lambda x, i: x[i], np.ones(4, np.float32), i)
        back.with_refs(rows, ft.ad.GradValue())(2.0)
    assert rows[...].tolist() == [0, 4, 0, 2]
    out = back.with_refs(ft.ad.DontWant(), ft.ad.GradValue())(2.0)
    assert out[0] == ft.ad.DidntWant()
    with pytest.raises(ValueError, match="one entry per argument of the differentiated function"):
        back.with_refs(rows)(1.0)

    def passes(w, xs):  # the references of a loop over parts of a batch
        grads = ft.new_ref(fnp.zeros_like(w))

        def step(_, x):
            loss, back = ft.vjp(lambda w: (w * x).sum() ** 2, w)
            back.with_refs(grads)(1.0)
            return None, loss

        losses = ft.lax.scan(step, None, xs)[1]
        return ft.freeze(grads), losses

    w, xs = np.array([1.0, 2.0]), np.array([[1.0, 0.0], [1.0, 1.0]])
    for run in (passes, ft.jit(passes)):
        grads, losses = run(w, xs)
        assert (grads.tolist(), losses.tolist()) == ([8, 6], [1, 9])


def test_what_references_cannot():
    r = ft.new_ref(np.zeros(2))
    for call in (lambda: ft.jit(lambda a, b: a[...])(r, r), lambda: ft.jit(lambda a: r[...])(r)):
        with pytest.raises(
            ValueError, match=r"<lambda>.* is given the same Ref twice.*Pass it once"
        ):
            call()
    with pytest.raises(TypeError, match=r"<lambda>.* returned Ref.*, of type Ref"):
        ft.jit(lambda: r)()
    with pytest.raises(ValueError, match="frozen or freed by the function that made it"):
        ft.jit(lambda: ft.freeze(r))()
    with pytest.raises(TypeError, match="there are no references to references"):
        ft.new_ref(r)
    with pytest.raises(TypeError, match=r"the condition .* writes a Ref, which only the body may"):
        ft.lax.while_loop(lambda i: (r.set(1.0), i < 3)[1], lambda i: i + 1, 0)
    kept = []
    ft.jit(lambda: kept.append(ft.new_ref(0.0)))()
    with pytest.raises(NotImplementedError, match=r"after the function that made them has ended"):
        kept[0][...]
