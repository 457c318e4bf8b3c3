"""Learn what names sound like, letter by letter: make up new ones, and tell their kinds apart.

The names (American ones of women, of men and of families, of the census of 1990) come with the
package names; nothing is downloaded. A recurrent network gets a kind and the letters so far, and
says how likely each letter is to come next. So it can be asked for names; and a name is of the kind
under which it is likeliest, by Bayes' rule. Names differ in length: they are padded, and what lies
behind their ends counts nowhere.

    python examples/names_rnn.py [--cell lstm|gru|rnn] [--epochs 12] [--out names_run] [--seed 0]

writes, into the folder --out, logs for TensorBoard, the parameters, and a picture of the learning
curve, of the confusions and of the letters as the network sees them. The last line compares with
counts of pairs of letters, on names that neither has seen.
"""

from __future__ import annotations

import argparse
import importlib.util
import time
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib
import numpy as np
from tensorboardX import SummaryWriter
from tqdm import tqdm

import funtorch as ft
import funtorch.numpy as fnp
from funtorch import data, lax, nnx, optim, random

matplotlib.use("Agg")
import matplotlib.pyplot as plt  # the backend is chosen before

KINDS = {"female": "dist.female.first", "male": "dist.male.first", "last": "dist.all.last"}
LETTERS = "$ABCDEFGHIJKLMNOPQRSTUVWXYZ"  # $ stands before a name and behind it
CELLS = {"rnn": nnx.RNN, "lstm": nnx.LSTM, "gru": nnx.GRU}
MOST = 6000  # names of a kind
ROOM = 16  # letters of the longest name, with its end


class Names(NamedTuple):
    """Letters int[n, ROOM + 1] that begin with $, how many follow it (with the end), and kinds."""

    letters: np.ndarray
    lengths: np.ndarray
    kinds: np.ndarray


def load(seed: int) -> tuple[Names, Names]:
    """Read the commonest names of each kind; return those to learn from, and those to test.

    A name that is of several kinds is learnt from or tested as all of them.
    """
    spec = importlib.util.find_spec("names")
    if spec is None or spec.origin is None:
        raise SystemExit("the names come with a package: pip install names")
    found = []
    for kind, file in enumerate(KINDS.values()):
        lines = (Path(spec.origin).parent / file).read_text("ascii").splitlines()
        names = [line.split()[0] for line in lines[:MOST]]
        found += [(name, kind) for name in names if len(name) < ROOM]
    rng = np.random.default_rng(seed)
    spellings = sorted({name for name, _ in found})
    tested = {spellings[i] for i in rng.permutation(len(spellings))[: len(spellings) // 5]}
    parts = [[f for f in found if (f[0] in tested) is held] for held in (False, True)]
    return _encoded(parts[0]), _encoded(parts[1])


def _encoded(found: list[tuple[str, int]]) -> Names:
    letters = np.zeros((len(found), ROOM + 1), np.int32)
    for row, (name, _) in zip(letters, found, strict=True):
        row[1 : len(name) + 1] = [LETTERS.index(letter) for letter in name]
    return Names(letters, (letters > 0).sum(1) + 1, np.array([kind for _, kind in found]))


class Namer(nnx.Module):
    """A kind and the letters so far -> scores of the next letter."""

    letters: nnx.Embedding
    kinds: nnx.Embedding
    cell: Any
    out: nnx.Sequential

    def __init__(self, cell: str, size: int, key: Any) -> None:
        k1, k2, k3, k4 = random.split(key, 4)
        self.letters = nnx.Embedding(len(LETTERS), 32, key=k1)
        self.kinds = nnx.Embedding(len(KINDS), 16, key=k2)
        self.cell = CELLS[cell](48, size, batch_first=True, key=k3)
        self.out = nnx.Sequential(nnx.Dropout(0.3), nnx.Linear(size, len(LETTERS), key=k4))

    def __call__(
        self, letters: Any, kinds: Any, lengths: Any = None, state: Any = None
    ) -> tuple[Any, Any]:
        """Map int[batch, length] and int[batch] to scores [batch, length, 27] and the state."""
        x, kind = self.letters(letters), self.kinds(kinds)
        kind = fnp.broadcast_to(kind[:, None], (*x.shape[:2], kind.shape[-1]))
        y, state = self.cell(fnp.concatenate([x, kind], -1), state, lengths=lengths)
        return self.out(y), state


def surprise(scores: Any, names: Names) -> Any:
    """Return -log of the probability of each name, a sum over its letters."""
    wanted = names.letters[:, 1:]
    each = -fnp.take_along_axis(nnx.log_softmax(scores), wanted[..., None], -1)[..., 0]
    return fnp.where(fnp.arange(wanted.shape[1]) < names.lengths[:, None], each, 0).sum(1)


@ft.jit
def by_kind(model: Namer, names: Names) -> Any:
    """Return -log of the probability of each name under each kind: [kinds, names]."""

    def under(kind: Any) -> Any:
        kinds = fnp.full(names.kinds.shape, kind)
        return surprise(model(names.letters[:, :-1], kinds, names.lengths)[0], names)

    return ft.vmap(under)(fnp.arange(len(KINDS)))


@ft.jit
def invent(model: Namer, key: Any, kinds: Any, temperature: Any) -> Any:
    """Draw names of these kinds, letter by letter: int[batch, ROOM], ended by zeros."""

    def step(carry: Any, key: Any) -> Any:
        letter, state = carry
        scores, state = model(letter[:, None], kinds, None, state)
        letter = random.categorical(key, scores[:, 0] / temperature)
        return (letter, state), letter

    start = fnp.zeros(kinds.shape, int)
    _, state = ft.eval_shape(model, start[:, None], kinds)
    state = ft.tree.map(lambda s: fnp.zeros(s.shape, s.dtype), state)
    drawn = lax.scan(step, (start, state), random.split(key, ROOM))[1].T
    return fnp.where(fnp.cumprod(drawn > 0, 1) > 0, drawn, 0)


def pairs(names: Names) -> Any:
    """Count pairs of letters in names of each kind, and make probabilities of them."""
    counts = np.full((len(KINDS), 27, 27), 0.1)
    for row, length, kind in zip(*names, strict=True):
        np.add.at(counts[kind], (row[:length], row[1 : length + 1]), 1)
    return np.log(counts / counts.sum(-1, keepdims=True))


def report(each: Any, names: Names, prior: np.ndarray) -> tuple[float, float, np.ndarray]:
    """Return nats per letter and accuracy, of -log probabilities [kinds, names]; and guesses."""
    each = np.asarray(each)
    own = each[names.kinds, np.arange(len(names.kinds))]
    guesses = (each - np.log(prior)[:, None]).argmin(0)
    return own.sum() / names.lengths.sum(), float((guesses == names.kinds).mean()), guesses


def draw(path: Path, curve: list[float], base: float, confusions: Any, model: Namer) -> None:
    """Draw the learning curve, the confusions, and the letters in their two main directions."""
    figure, (left, middle, right) = plt.subplots(1, 3, figsize=(13, 4), layout="constrained")
    left.plot(range(1, len(curve) + 1), curve, label="network")
    left.axhline(base, color="gray", ls="--", label="pairs of letters")
    left.set(xlabel="epoch", ylabel="nats per letter, new names")
    left.legend()
    middle.imshow(confusions, cmap="Blues", vmin=0, vmax=1)
    for i, j in np.ndindex(*confusions.shape):
        middle.text(j, i, f"{confusions[i, j]:.0%}", ha="center", va="center")
    middle.set(xlabel="taken for", ylabel="is", title="kinds of new names")
    middle.set_xticks(range(len(KINDS)), KINDS)
    middle.set_yticks(range(len(KINDS)), KINDS)
    vectors = model.letters.weight - model.letters.weight.mean(0)
    places = np.asarray(vectors @ fnp.linalg.svd(vectors)[2][:2].T)
    for letter, (x, y) in zip(LETTERS, places, strict=True):
        right.text(x, y, letter, color="crimson" if letter in "AEIOUY" else "black")
    right.set(xlim=(places[:, 0].min() - 1, places[:, 0].max() + 1), title="letters")
    right.set(ylim=(places[:, 1].min() - 1, places[:, 1].max() + 1))
    figure.savefig(path, dpi=100)
    plt.close(figure)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--cell", choices=CELLS, default="lstm")
    parser.add_argument("--size", type=int, default=128, help="of the network's state")
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--out", type=Path, default=Path("names_run"))
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    started = time.perf_counter()

    train, test = load(args.seed)
    prior = np.bincount(train.kinds) / len(train.kinds)
    table = pairs(train)
    by_pairs = [surprise(t[test.letters[:, :-1]], test) for t in table]
    base, base_right, _ = report(by_pairs, test, prior)
    loader = data.DataLoader(
        data.ArrayDataset(*train), 64, shuffle=True, drop_last=True, seed=args.seed
    )
    steps = args.epochs * len(loader)
    optimizer = optim.chain(
        optim.clip_by_global_norm(1.0),
        optim.adamw(optim.warmup_cosine_decay_schedule(0.0, 5e-3, steps // 20, steps, 1e-5)),
    )
    key, init = random.split(random.key(args.seed))
    model = Namer(args.cell, args.size, init)
    state = optimizer.init(nnx.parameters(model))
    print(f"{args.cell} with {nnx.param_count(model):,} parameters")

    @ft.jit
    def step(model: Namer, state: Any, key: Any, names: Names) -> Any:
        def loss(model: Namer) -> Any:
            (scores, _), new = nnx.train(model, key)(
                names.letters[:, :-1], names.kinds, names.lengths
            )
            return surprise(scores, names).sum() / names.lengths.sum(), new

        (value, model), grads = nnx.value_and_grad(loss, has_aux=True)(model)
        updates, state = optimizer.update(grads, state, nnx.parameters(model))
        return optim.apply_updates(model, updates), state, value

    log = SummaryWriter(str(args.out / "logs"))
    curve: list[float] = []
    for epoch in range(args.epochs):
        losses = []
        for batch in tqdm(loader, desc=f"epoch {epoch + 1:2}", leave=False, disable=None):
            key, now = random.split(key)
            model, state, value = step(model, state, now, Names(*batch))
            losses.append(value)
        nats, right, guesses = report(by_kind(model, test), test, prior)
        curve.append(nats)
        log.add_scalar("nats per letter/train", float(np.mean(losses)), epoch)
        log.add_scalar("nats per letter/test", nats, epoch)
        log.add_scalar("accuracy", right, epoch)
        for name, array in nnx.state_dict(model).items():
            log.add_histogram(name, np.asarray(array), epoch)
        print(f"epoch {epoch + 1:2}  loss {np.mean(losses):.4f}  test {nats:.4f}  {right:.1%}")

    confusions = np.zeros((len(KINDS), len(KINDS)))
    np.add.at(confusions, (test.kinds, guesses), 1)
    confusions /= confusions.sum(1, keepdims=True)
    draw(args.out / "names.png", curve, base, confusions, model)
    log.add_image("confusions", np.kron(confusions, np.ones((40, 40)))[None], args.epochs)
    ft.save(args.out / "names.safetensors", nnx.state_dict(model))
    known = {row.tobytes() for row in train.letters[:, 1:]}
    for number, kind in enumerate(KINDS):
        drawn = np.asarray(invent(model, random.key(number), fnp.full(40, number), 0.8), np.int32)
        rows = [row for row in drawn if row.tobytes() not in known]
        fresh = ["".join(LETTERS[i] for i in row if i) for row in rows]
        log.add_text(kind, ", ".join(fresh))
        print(f"new {kind} names: {', '.join(name.capitalize() for name in fresh[:8])}")
    log.close()
    print(
        f"{nats:.3f} nats per letter (pairs: {base:.3f}), {right:.1%} of kinds (pairs: "
        f"{base_right:.1%}), {len(test.kinds)} new names, {time.perf_counter() - started:.1f} s"
    )


if __name__ == "__main__":
    main()
