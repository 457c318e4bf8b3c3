"""Pytrees: results recorded from JAX, JAX itself on random trees, errors by their text."""

import collections
import copy
import dataclasses
import functools
import pickle
import random

import numpy as np
import pytest

import funtorch as ft
from funtorch import tree, tree_util

Point = collections.namedtuple("Point", "x y")


@functools.partial(tree.register_dataclass, data_fields=["a"], meta_fields=["m"])
@dataclasses.dataclass
class Box:
    a: object
    m: int = 3


@tree.register_static
@dataclasses.dataclass(frozen=True)
class Mode:
    name: str


@tree.register_pytree_with_keys_class
class Named:
    def __init__(self, *children):
        self.children = children

    def tree_flatten_with_keys(self):
        pairs = [(tree.GetAttrKey(f"c{i}"), child) for i, child in enumerate(self.children)]
        return pairs, "meta"

    @classmethod
    def tree_unflatten(cls, meta, children):
        assert meta == "meta"
        return cls(*children)


OD = collections.OrderedDict
RECORDED = [
    (1, [1], "*"),
    (None, [], "None"),
    ((), [], "()"),
    ((1,), [1], "(*,)"),
    ([1, (2, 3)], [1, 2, 3], "[*, (*, *)]"),
    ({}, [], "{}"),
    ({"b": 1, "a": (2, None)}, [2, 1], "{'a': (*, None), 'b': *}"),
    ({2: "x", 1: "y"}, ["y", "x"], "{1: *, 2: *}"),
    (Point(1, [2]), [1, 2], "CustomNode(namedtuple[Point], [*, [*]])"),
    (OD(b=1, a=2), [1, 2], "CustomNode(OrderedDict[('b', 'a')], [*, *])"),
    (
        collections.defaultdict(list, b=1, a=2),
        [2, 1],
        "CustomNode(defaultdict[(<class 'list'>, ('a', 'b'))], [*, *])",
    ),
    (Box((1, 2)), [1, 2], "CustomNode(Box[(3,)], [(*, *)])"),
    (Mode("train"), [], "CustomNode(Mode[Mode(name='train')], [])"),
    (
        tree.Partial(print, 1, end=""),
        [1, ""],
        "CustomNode(Partial[<built-in function print>], [(*,), {'end': *}])",
    ),
]


@pytest.mark.parametrize(("value", "leaves", "shown"), RECORDED, ids=lambda x: str(x)[:20])
def test_recorded(value, leaves, shown):
    found, treedef = tree.flatten(value)
    assert found == leaves
    assert repr(treedef) == f"PyTreeDef({shown})"
    assert treedef.num_leaves == len(leaves)
    again = treedef.unflatten(leaves)
    assert type(again) is type(value)
    assert tree.flatten(again) == (leaves, treedef)
    assert hash(tree.structure(again)) == hash(treedef)
    for is_leaf in (lambda x: False, None):
        assert tree.flatten(value, is_leaf) == (leaves, treedef)
        pairs, path_def = tree.flatten_with_path(value, is_leaf)
        assert ([leaf for _, leaf in pairs], path_def) == (leaves, treedef)


def random_tree(rng, depth):
    kinds = [tuple, list, dict, Point, OD, None, "int keys"] if depth else []
    kind = rng.choice([*kinds, "leaf", "leaf"])
    if kind == "leaf":
        return rng.randrange(100)
    if kind is None:
        return None
    count = rng.randrange(4)
    children = [random_tree(rng, depth - 1) for _ in range(count)]
    names = rng.sample(["a", "b", "c", "d"], count)
    if kind is Point:
        return Point(random_tree(rng, depth - 1), 0)
    if kind == "int keys":
        return dict(zip(rng.sample(range(9), count), children, strict=True))
    return kind(children) if kind in (tuple, list) else kind(zip(names, children, strict=True))


@pytest.mark.parametrize("seed", range(40))
def test_random_trees_as_jax(seed):
    jax = pytest.importorskip("jax", reason="compares with the pytrees of installed JAX")
    rng = random.Random(seed)
    value, other = random_tree(rng, 4), random_tree(rng, 4)
    ours, theirs = tree.structure(value), jax.tree.structure(value)
    assert tree.leaves(value) == jax.tree.leaves(value)
    assert str(ours) == str(theirs)
    assert (ours.num_leaves, ours.num_nodes) == (theirs.num_leaves, theirs.num_nodes)
    assert (ours == tree.structure(other)) == (theirs == jax.tree.structure(other))
    assert tree.map(lambda x: x + 1, value) == jax.tree.map(lambda x: x + 1, value)
    assert tree.map(lambda x, y: (x, y), value, value) == jax.tree.map(
        lambda x, y: (x, y), value, value
    )
    is_leaf = lambda x: isinstance(x, list) or x is None
    assert tree.leaves(value, is_leaf) == jax.tree.leaves(value, is_leaf)
    paths = [(tree.keystr(path), x) for path, x in tree.leaves_with_path(value)]
    assert paths == [
        (jax.tree_util.keystr(path), x) for path, x in jax.tree.leaves_with_path(value)
    ]
    composed, theirs = ours.compose(tree.structure((0, [0]))), theirs.compose(
        jax.tree.structure((0, [0]))
    )  # fmt: skip
    assert str(composed) == str(theirs)


@pytest.mark.parametrize("seed", range(20))
def test_random_trees_keep_their_structure(seed):
    value = random_tree(random.Random(seed), 4)
    leaves, treedef = tree.flatten(value)
    assert treedef.unflatten(leaves) == value
    assert treedef.flatten_up_to(value) == leaves
    assert [*map(str, treedef.children())] == [str(d) for d in tree_util.treedef_children(treedef)]
    for copied in (pickle.loads(pickle.dumps(treedef)), copy.deepcopy(treedef)):
        assert copied == treedef
        assert hash(copied) == hash(treedef)
        assert copied.unflatten(leaves) == value


def test_common_structures_are_shared():
    def make():
        return ({"b": [1, 2], "a": Point(3, None)}, (4, "x"))

    assert tree.structure(make()) is tree.structure(make())
    assert tree.structure(make()) is tree.structure(make(), lambda x: False)
    assert tree.structure({"a": 1, "b": 2}) is tree.structure({"b": 1, "a": 2})


def test_equal_keys_of_different_types_are_not_mixed_up():
    for value in ({1: "x"}, {True: "x"}, {1.0: "x"}):
        for wrapped in (value, (value,), {"k": value}):
            assert repr(tree.map(lambda x: x, wrapped)) == repr(wrapped)


def test_metadata_is_structure():
    assert tree.structure(Box(1, m=1)) != tree.structure(Box(1, m=2))
    assert tree.map(lambda x: -x, Box(1, m=7)) == Box(-1, m=7)
    assert tree.structure(Mode("a")) != tree.structure(Mode("b"))
    assert tree.structure((1,)) != tree.structure([1])
    assert tree.structure({"a": 1}) != tree.structure(OD(a=1))


def test_metadata_without_a_hash():
    """Lists and dicts are compared by what is in them, and so are arguments of jit."""
    for make in (lambda n: [n, [2]], lambda n: {"a": [n]}, lambda n: ([n], {1: {n}})):
        one, same, other = (tree.structure(Box(1, m=make(n))) for n in (1, 1, 2))
        assert (one, hash(one)) == (same, hash(same))
        assert one != other
    traced = []
    f = ft.jit(lambda box: traced.append(box.m) or box.a * len(box.m))
    names = ["a", "b"]
    assert [f(Box(3.0, m=m)).item() for m in (names, ["a", "b"], ["a"])] == [6, 6, 3]
    names.append("c")
    assert (f(Box(3.0, m=names)).item(), len(traced)) == (9, 3)


def test_key_paths():
    value = {"a": [1, Point(2, 3)], "b": Box(4), "c": Named(5), "d": tree.Partial(print, 6)}
    assert [tree.keystr(path) for path, _ in tree.leaves_with_path(value)] == [
        "['a'][0]", "['a'][1].x", "['a'][1].y", "['b'].a", "['c'].c0",
        "['d'][<flat index 0>][0]",
    ]  # fmt: skip
    path = tree.leaves_with_path(value)[1][0]
    assert path == (tree.DictKey("a"), tree.SequenceKey(1), tree.GetAttrKey("x"))
    assert tree.keystr(path, simple=True, separator="/") == "a/1/x"
    assert (path[0].key, path[1].idx, path[2].name) == ("a", 1, "x")


def test_is_leaf_takes_path():
    stop = lambda path, x: len(path) == 1
    pairs = tree.leaves_with_path({"a": [1, 2]}, is_leaf=stop, is_leaf_takes_path=True)
    assert pairs == [((tree.DictKey("a"),), [1, 2])]
    doubled = tree.map_with_path(lambda path, x, y: (len(path), x, y), [1, [2]], [3, [(4,)]])
    assert doubled == [(1, 1, 3), [(2, 2, (4,))]]
    assert tree.map_with_path(lambda path, x: x, ()) == ()


def test_map_over_prefixes():
    assert tree.map(lambda x, y: y, (1, [2]), ({"k": 1}, [(2, 3)])) == ({"k": 1}, [(2, 3)])
    none_is_leaf = lambda x: x is None
    assert tree.map(lambda x, y: y, (None, 1), (2, 3), is_leaf=none_is_leaf) == (2, 3)


def test_reductions():
    value = {"a": 1, "b": [2, None, 3]}
    assert tree.reduce(lambda x, y: x - y, value) == -4
    assert tree.reduce(lambda x, y: x - y, value, 10) == 4
    assert tree.reduce_associative(max, value) == 3
    assert tree.reduce_associative(max, [], identity=0) == 0
    assert tree.reduce_associative(lambda a, b: f"({a}{b})", list("abcde")) == "(((ab)(cd))e)"
    assert tree.all([True, (1,)])
    assert tree.all_leaves([1, "a"])
    assert not tree.all_leaves([1, None])
    for reduction in (tree.reduce, tree.reduce_associative):
        with pytest.raises(TypeError, match="has no leaves; pass an"):
            reduction(max, [None])


def test_transpose():
    value = ({"a": 1, "b": 2}, {"a": 3, "b": 4})
    outer, inner = tree.structure((0, 0)), tree.structure({"a": 0, "b": 0})
    assert tree.transpose(outer, inner, value) == {"a": (1, 3), "b": (2, 4)}
    assert tree.transpose(outer, None, value) == {"a": (1, 3), "b": (2, 4)}
    with pytest.raises(TypeError, match="does not have the structure of outer_treedef"):
        tree.transpose(outer, inner, (1, 2))
    with pytest.raises(TypeError, match="must have leaves"):
        tree.transpose(tree.structure(()), inner, ())


def test_broadcast_prefix():
    full = ({"w": 1, "b": None}, [2, 3])
    assert tree.broadcast_prefix(0, full) == [0, 0, 0]
    assert tree.broadcast_prefix((0, 1), full) == [0, 1, 1]
    assert tree.broadcast_prefix((0, 1), tree.structure(full)) == [0, 1, 1]
    none_is_leaf = lambda x: x is None
    assert tree.broadcast_prefix((None, [0, None]), full, is_leaf=none_is_leaf) == [None, 0, None]
    assert tree.broadcast((0, 1), full) == ({"w": 0, "b": None}, [1, 1])


def text_of(error, call, *args, **keywords):
    with pytest.raises(error) as caught:
        call(*args, **keywords)
    return str(caught.value)


def test_broadcast_prefix_error():
    full = ({"w": 1, "b": 2}, 3)
    text = text_of(ValueError, tree.broadcast_prefix, ({"w": 0}, 1), full, "in_axes")
    assert text.startswith(
        "in_axes does not fit the tree it is for: at key path [0] it should be a dict with keys "
        "['b', 'w'], but is a dict with keys ['w']. in_axes must be a prefix of the tree"
    )
    assert "in_axes: PyTreeDef(({'w': *}, *))" in text
    assert "tree: PyTreeDef(({'b': *, 'w': *}, *))" in text
    text = text_of(ValueError, tree.broadcast_prefix, (0, 1, 2), full, "in_axes")
    assert "at the root it should be a tuple of length 2, but is a tuple of length 3" in text
    text = text_of(ValueError, tree.broadcast_prefix, (0, [1]), full, "in_axes")
    assert "at key path [1] it should be a leaf, but is a list of length 1" in text


@pytest.mark.parametrize(
    ("other", "message"),
    [
        ([1, {"k": 2}], "at the root it should be a tuple of length 2, but is a list of length 2"),
        ((1, {"j": 2}), "at key path [1] it should be a dict with keys ['k'], but is a dict with"),
        ((1, None), "at key path [1] it should be a dict with keys ['k'], but is None"),
        ((1,), "at the root it should be a tuple of length 2, but is a tuple of length 1"),
        ((1, Box(2)), "but is a Box with 1 children and metadata (3,)"),
        ((1, Point(1, 2)), "but is a named tuple Point(x, y)"),
    ],
)
def test_map_mismatch_error(other, message):
    text = text_of(ValueError, tree.map, lambda x, y: x, (1, {"k": 2}), other)
    assert text.startswith("tree.map: tree 2 of 2 does not have the expected structure: at ")
    assert message in text
    assert "expected: PyTreeDef((*, {'k': *}))" in text


def test_none_is_a_node():
    text = text_of(ValueError, tree.map, lambda x, y: x, [None], [1])
    assert "at key path [0] it should be None, but is a leaf" in text


def test_other_errors():
    text = text_of(ValueError, tree.leaves, {"a": 1, 2: 3})
    assert "keys ['a', 2] (of types int, str) cannot be compared" in text
    assert "Too few leaves for PyTreeDef; expected 2, got 1" in text_of(
        ValueError, tree.unflatten, tree.structure((1, 2)), [1]
    )
    assert "Too many leaves" in text_of(ValueError, tree.structure(1).unflatten, [1, 2])
    assert "treedef must be a PyTreeDef" in text_of(TypeError, tree.unflatten, [1], [2])
    assert "Duplicate" in text_of(ValueError, tree.register_static, Mode)
    assert "Duplicate" in text_of(
        ValueError, tree.register_pytree_node, list, lambda x: (x, None), lambda meta, xs: xs
    )
    assert "only a class" in text_of(TypeError, tree.register_static, 1)


def test_register_dataclass_reads_static_fields():
    @tree.register_dataclass
    @dataclasses.dataclass
    class Layer:
        w: object
        name: str = dataclasses.field(default="n", metadata={"static": True})

    assert tree.map(lambda x: x + 1, Layer(1, "q")) == Layer(2, "q")

    @dataclasses.dataclass
    class Other:
        a: int
        b: int

    text = text_of(ValueError, tree.register_dataclass, Other, ["a", "z"], [])
    assert "missing: ['b'], unknown: ['z']" in text
    assert "give both" in text_of(TypeError, tree.register_dataclass, Other, ["a"])
    assert "is no dataclass" in text_of(TypeError, tree.register_dataclass, type("C", (), {}))


def test_types_seen_as_leaves_can_be_registered_later():
    class Late:
        def __init__(self, x):
            self.x = x

    value = (Late(1), [Late(2)])
    assert tree.leaves(value) == [value[0], value[1][0]]
    tree.register_pytree_node(Late, lambda late: ([late.x], None), lambda meta, xs: Late(*xs))
    assert tree.leaves(value) == [1, 2]


def test_partial():
    inner = functools.partial(pow, 2)
    outer = tree.Partial(inner, 5)
    assert (outer(), tree.leaves(outer)) == (32, [5])
    merged = tree.Partial(tree.Partial(pow, 2), 5)
    assert (merged(), tree.leaves(merged)) == (32, [2, 5])
    assert tree.structure(tree.Partial(inner, 1)) == tree.structure(tree.Partial(inner, 2))
    assert tree.map(lambda x: x + 1, outer)() == 64


def test_arrays_are_leaves():
    arrays = {"w": np.ones((2, 2)), "b": [np.zeros(2), np.float32(1)]}
    assert [np.shape(x) for x in tree.leaves(arrays)] == [(2,), (), (2, 2)]


def test_tree_util_names():
    value = {"a": (1, 2)}
    leaves, treedef = tree_util.tree_flatten(value)
    assert tree_util.tree_unflatten(treedef, leaves) == value
    assert tree_util.build_tree(treedef, {"a": ([1], 2)}) == {"a": ([1], 2)}
    assert tree_util.treedef_tuple([treedef, treedef]) == tree.structure((value, value))
    assert [tree_util.treedef_is_leaf(tree.structure(x)) for x in (1, None, (), (1,))] == [
        True, True, True, False,
    ]  # fmt: skip
    assert tree.structure(Point(1, 2)).node_data() == (Point, None)
    assert tree.structure({"a": 1}).node_data() == (dict, ("a",))
    assert tree.structure(1).node_data() is None


def test_one_level_of_a_tree():
    assert tree_util.flatten_one_level([1, (2,)]) == ([1, (2,)], None)
    assert tree_util.flatten_one_level({"b": 1, "a": 2}) == ([2, 1], ("a", "b"))
    keyed, _ = tree_util.flatten_one_level_with_keys(Point(1, 2))
    assert keyed == [(tree.GetAttrKey("x"), 1), (tree.GetAttrKey("y"), 2)]
    assert [tree_util.is_tree_node(x) for x in (None, [], 1, "a")] == [True, True, False, False]
    with pytest.raises(ValueError, match="can't tree-flatten type: <class 'int'>"):
        tree_util.flatten_one_level(1)
