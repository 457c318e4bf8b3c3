"""Derivatives of functions that have none, such as argmax: of their means over noise.

References:
    Berthet et al., "Learning with differentiable perturbed optimizers", NeurIPS (2020).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import funtorch.numpy as fnp
from funtorch import lax, random, tree
from funtorch.optim.base import check_positive
from funtorch.optim.norms import tree_sum
from funtorch.optim.tree_utils import tree_random_like
from funtorch.transforms import vmap

__all__ = ["Gumbel", "Normal", "make_perturbed_fun"]


class Normal:
    """Normal noise.

    Example:
        >>> optim.perturbations.Normal().log_prob(fnp.array(1.0))
        Array(-0.5, dtype=float32, weak_type=True)
    """

    def sample(self, key: Any, sample_shape: tuple[int, ...] = (), dtype: Any = float) -> Any:
        """Draw noise.

        Args:
            key: random key.
            sample_shape: shape.
            dtype: dtype.

        Returns:
            The draws.
        """
        return random.normal(key, sample_shape, dtype)

    def log_prob(self, inputs: Any) -> Any:
        """Compute the logarithm of the density, but for a constant.

        Args:
            inputs: where.

        Returns:
            An array of the same shape.
        """
        return -0.5 * inputs**2


class Gumbel:
    """Gumbel noise: with it, a mean argmax is a softmax.

    Example:
        >>> optim.perturbations.Gumbel().log_prob(fnp.array(0.0))
        Array(-1., dtype=float32, weak_type=True)
    """

    def sample(self, key: Any, sample_shape: tuple[int, ...] = (), dtype: Any = float) -> Any:
        """Draw noise.

        Args:
            key: random key.
            sample_shape: shape.
            dtype: dtype.

        Returns:
            The draws.
        """
        return random.gumbel(key, sample_shape, dtype)

    def log_prob(self, inputs: Any) -> Any:
        """Compute the logarithm of the density.

        Args:
            inputs: where.

        Returns:
            An array of the same shape.
        """
        return -inputs - fnp.exp(-inputs)


def make_perturbed_fun(
    fun: Callable[[Any], Any],
    num_samples: int = 1000,
    sigma: float = 0.1,
    noise: Any = None,
    use_baseline: bool = True,
) -> Callable[[Any, Any], Any]:
    """Make a function the mean of its values at noisy places, which has derivatives.

    They are estimated by values alone (score function), so ``fun`` needs none.

    Args:
        fun: function of a pytree to a pytree.
        num_samples: how many noisy places.
        sigma: size of the noise.
        noise: its distribution, with ``sample`` and ``log_prob``; `Gumbel` by default.
        use_baseline: whether to subtract the value without noise, which makes the derivative's
            variance smaller.

    Returns:
        A function of a random key and the argument.

    Raises:
        ValueError: ``sigma`` is not positive.

    Example:
        >>> f = optim.perturbations.make_perturbed_fun(lambda x: (x > 0).astype(float), sigma=1.0)
        >>> 0.0 < float(ft.grad(lambda x: f(random.key(0), x))(0.0)) < 1.0
        True

    References:
        Berthet et al., "Learning with differentiable perturbed optimizers", NeurIPS (2020).
    """
    check_positive("make_perturbed_fun", zero=False, sigma=sigma)
    noise = Gumbel() if noise is None else noise

    def perturbed(key: Any, x: Any) -> Any:
        x = tree.map(fnp.asarray, x)
        base = fun(lax.stop_gradient(x)) if use_baseline else None

        def once(key: Any) -> Any:
            drawn = tree_random_like(key, x, noise.sample)
            place = lax.stop_gradient(tree.map(lambda p, n: p + sigma * n, x, drawn))
            scores = tree.map(lambda p, at: noise.log_prob((at - p) / sigma), x, place)
            score = tree_sum(scores)
            # 1, whose derivative is that of the score.
            one = fnp.exp(score - lax.stop_gradient(score))
            value = tree.map(lambda y: one * y, fun(place))
            if use_baseline:
                value = tree.map(lambda y, b: y + (1 - one) * b, value, base)
            return value

        values = vmap(once)(random.split(key, num_samples))
        return tree.map(lambda y: fnp.mean(y, axis=0), values)

    return perturbed
