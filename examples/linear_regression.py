"""Fit a line through scikit-learn's diabetes data by gradient descent, in ten lines.

python examples/linear_regression.py
"""

import numpy as np
from sklearn.datasets import load_diabetes

import funtorch as ft

x, y = load_diabetes(return_X_y=True)
x = np.column_stack([x / x.std(0), np.ones(len(x))])


def loss(w):
    return ((x @ w - y) ** 2).mean()


step, w = ft.jit(lambda w: w - 0.2 * ft.grad(loss)(w)), np.zeros(11)
for _ in range(20_000):
    w = step(w)
best = np.linalg.lstsq(x, y)[0]
print(f"R² {1 - loss(w) / y.var():.4f}, largest difference from lstsq {abs(w - best).max():.1e}")
