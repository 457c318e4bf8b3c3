"""Changes to images, as pure functions: those of chance take a random key.

Images have their channels first: an array (..., channels, height, width), where ``...`` is nothing
or the axis of a batch. Each image of a batch meets its own chance. Everything works under ``jit``,
``vmap`` and ``grad``.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

import funtorch.image
import funtorch.numpy as fnp
from funtorch import random
from funtorch.lax import dynamic_slice
from funtorch.scipy.ndimage import map_coordinates
from funtorch.transforms import jit, vmap

__all__ = [
    "CenterCrop",
    "ColorJitter",
    "Compose",
    "Grayscale",
    "Lambda",
    "Normalize",
    "On",
    "Pad",
    "RandomCrop",
    "RandomErasing",
    "RandomHorizontalFlip",
    "RandomResizedCrop",
    "RandomRotation",
    "RandomVerticalFlip",
    "Resize",
    "ToTensor",
    "Transform",
]


class Transform:
    """Base of transforms: define ``apply(x)``; or ``draw(key, x)`` for one image, if by chance.

    Attributes:
        random: whether a call needs a key.
    """

    random = False

    def __call__(self, x: Any, *, key: Any = None) -> Any:
        """Apply the transform.

        Args:
            x: an image, or a batch of them.
            key: a random key, if the transform is one of chance.

        Returns:
            The changed image or images.

        Raises:
            ValueError: a key is missing, or ``x`` is no image.
        """
        if not self.random:
            return self.apply(x)
        if key is None:
            raise ValueError(
                f"{type(self).__name__} is a transform of chance and needs key=...; a DataLoader "
                "gives one to its transform"
            )
        return self._drawn(key, _image(self, x))

    def apply(self, x: Any) -> Any:
        """Change an image or a batch."""
        raise NotImplementedError(f"{type(self).__name__} needs a method apply(x) or draw(key, x)")

    def draw(self, key: Any, x: Any) -> Any:
        """Change one image (channels, height, width) at random."""
        raise NotImplementedError(f"{type(self).__name__} needs a method apply(x) or draw(key, x)")

    @functools.cached_property
    def _drawn(self) -> Callable[[Any, Any], Any]:
        def drawn(key: Any, x: Any) -> Any:
            if x.ndim == 3:
                return self.draw(key, x)
            flat = x.reshape(-1, *x.shape[-3:])
            out = vmap(self.draw)(random.split(key, len(flat)), flat)
            return out.reshape(*x.shape[:-3], *out.shape[1:])

        return jit(drawn)

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name != "_drawn"}


class Compose(Transform):
    """Several transforms, one after another.

    Args:
        transforms: transforms, or functions of one argument.

    Example:
        >>> from funtorch import random
        >>> from funtorch.data import transforms
        >>> augment = transforms.Compose(
        ...     [transforms.RandomCrop(28, padding=2), transforms.Normalize([0.5], [0.5])]
        ... )
        >>> augment(fnp.ones((4, 1, 28, 28)), key=random.key(0)).shape
        (4, 1, 28, 28)
    """

    def __init__(self, transforms: Sequence[Callable[..., Any]]) -> None:
        self.transforms = tuple(transforms)
        self.random = any(getattr(t, "random", False) for t in self.transforms)

    def __call__(self, x: Any, *, key: Any = None) -> Any:
        """Apply all of them; see `Transform`."""
        for i, transform in enumerate(self.transforms):
            if getattr(transform, "random", False) and key is not None:
                x = transform(x, key=random.fold_in(key, i))
            else:
                x = transform(x)
        return x


class Lambda(Transform):
    """A function as a transform.

    Args:
        f: the function.
    """

    def __init__(self, f: Callable[[Any], Any]) -> None:
        self.f = f

    def apply(self, x: Any) -> Any:
        """Call the function."""
        return self.f(x)


class On(Transform):
    """A transform of one part of a sample or batch: of the images in pairs with labels.

    Args:
        part: the number or name of the part.
        transform: what is applied to it.

    Example:
        >>> from funtorch.data import transforms
        >>> transforms.On(0, transforms.Lambda(lambda x: 2 * x))((3, "label"))
        (6, 'label')
    """

    def __init__(self, part: Any, transform: Callable[..., Any]) -> None:
        self.part = part
        self.transform = transform
        self.random = getattr(transform, "random", False)

    def __call__(self, x: Any, *, key: Any = None) -> Any:
        """Change one part; see `Transform`."""
        options = {"key": key} if self.random else {}
        changed = self.transform(x[self.part], **options)
        if isinstance(x, dict):
            return {**x, self.part: changed}
        items = [changed if i == self.part else item for i, item in enumerate(x)]
        return type(x)(*items) if hasattr(x, "_fields") else type(x)(items)


class ToTensor(Transform):
    """From (..., height, width[, channels]) of uint8 to (..., channels, height, width) in [0, 1].

    Other dtypes keep their values. An array of two axes is one grey image.

    Example:
        >>> import numpy as np
        >>> from funtorch.data import transforms
        >>> transforms.ToTensor()(np.full((2, 3, 1), 255, np.uint8)).shape
        (1, 2, 3)
    """

    def apply(self, x: Any) -> Any:
        """Convert."""
        x = fnp.asarray(x)
        if x.ndim < 2:
            raise ValueError(f"ToTensor takes an image (height, width, channels), got {x.shape}")
        x = x[None] if x.ndim == 2 else fnp.moveaxis(x, -1, -3)
        return x.astype(fnp.float32) / 255 if x.dtype == np.uint8 else x


class Normalize(Transform):
    """Subtract the mean and divide by the deviation of each channel.

    Args:
        mean: one number per channel.
        std: one number per channel.
    """

    def __init__(self, mean: Any, std: Any) -> None:
        self.mean = np.asarray(mean, np.float32).reshape(-1, 1, 1)
        self.std = np.asarray(std, np.float32).reshape(-1, 1, 1)
        if not np.all(self.std > 0):
            raise ValueError(f"Normalize takes deviations above 0, got {self.std.reshape(-1)}")

    def apply(self, x: Any) -> Any:
        """Normalise."""
        x = _image(self, x)
        return (x - self.mean.astype(x.dtype)) / self.std.astype(x.dtype)


class Pad(Transform):
    """Add a border.

    Args:
        padding: how wide: a number, or (left, top, right, bottom).
        fill: its value, for mode 'constant'.
        mode: a mode of `numpy.pad`: 'constant', 'reflect', 'edge' ...
    """

    def __init__(self, padding: Any, fill: float = 0.0, mode: str = "constant") -> None:
        self.padding = (padding,) * 4 if isinstance(padding, int) else tuple(padding)
        self.fill = fill
        self.mode = mode

    def apply(self, x: Any) -> Any:
        """Pad."""
        x = _image(self, x)
        left, top, right, bottom = self.padding
        widths = [(0, 0)] * (x.ndim - 2) + [(top, bottom), (left, right)]
        options = {"constant_values": self.fill} if self.mode == "constant" else {}
        return fnp.pad(x, widths, mode=self.mode, **options)


class CenterCrop(Transform):
    """Cut out the middle.

    Args:
        size: height and width, or one number for both.
    """

    def __init__(self, size: int | tuple[int, int]) -> None:
        self.size = _pair(size)

    def apply(self, x: Any) -> Any:
        """Cut."""
        x = _image(self, x)
        _check_fits(self, self.size, x.shape)
        top, left = ((n - size) // 2 for n, size in zip(x.shape[-2:], self.size, strict=True))
        return x[..., top : top + self.size[0], left : left + self.size[1]]


class Resize(Transform):
    """Scale to another size.

    Args:
        size: height and width, or one number for both.
        method: as for `funtorch.image.resize`.
    """

    def __init__(self, size: int | tuple[int, int], method: str = "linear") -> None:
        self.size = _pair(size)
        self.method = method

    def apply(self, x: Any) -> Any:
        """Scale."""
        x = _image(self, x)
        return funtorch.image.resize(x, (*x.shape[:-2], *self.size), self.method)


class Grayscale(Transform):
    """From red, green and blue to luma, 0.299 R + 0.587 G + 0.114 B (ITU-R BT.601).

    Args:
        channels: how many equal channels come out.
    """

    def __init__(self, channels: int = 1) -> None:
        self.channels = channels

    def apply(self, x: Any) -> Any:
        """Convert."""
        grey = _grey(_image(self, x))
        return fnp.broadcast_to(grey, (*grey.shape[:-3], self.channels, *grey.shape[-2:]))


class RandomCrop(Transform):
    """Cut out a piece anywhere.

    Args:
        size: height and width, or one number for both.
        padding: a border that is added before; see `Pad`.
        fill: the border's value.
    """

    random = True

    def __init__(self, size: Any, padding: Any = 0, fill: float = 0.0) -> None:
        self.size = _pair(size)
        self.pad = Pad(padding, fill)

    def draw(self, key: Any, x: Any) -> Any:
        """Cut."""
        x = self.pad(x)
        _check_fits(self, self.size, x.shape)
        room = np.array(x.shape[-2:]) - self.size + 1
        corner = random.randint(key, (2,), 0, room)
        return dynamic_slice(x, (0, corner[0], corner[1]), (x.shape[0], *self.size))


class _Flip(Transform):
    random = True
    axis: int

    def __init__(self, p: float = 0.5) -> None:
        self.p = p

    def draw(self, key: Any, x: Any) -> Any:
        """Turn over, or not."""
        return fnp.where(random.bernoulli(key, self.p), fnp.flip(x, self.axis), x)


class RandomHorizontalFlip(_Flip):
    """Exchange left and right.

    Args:
        p: how probable that is.
    """

    axis = -1


class RandomVerticalFlip(_Flip):
    """Exchange top and bottom.

    Args:
        p: how probable that is.
    """

    axis = -2


class RandomRotation(Transform):
    """Turn about the middle, with linear interpolation; what comes in from outside is ``fill``.

    Args:
        degrees: the largest angle, to both sides.
        fill: value outside of the image.
    """

    random = True

    def __init__(self, degrees: float, fill: float = 0.0) -> None:
        self.degrees = degrees
        self.fill = fill

    def draw(self, key: Any, x: Any) -> Any:
        """Turn."""
        limit = math.radians(self.degrees)
        angle = random.uniform(key, (), x.dtype, -limit, limit)
        height, width = x.shape[-2:]
        down, right = fnp.meshgrid(
            fnp.arange(height) - (height - 1) / 2, fnp.arange(width) - (width - 1) / 2,
            indexing="ij",
        )  # fmt: skip
        cos, sin = fnp.cos(angle), fnp.sin(angle)
        places = [
            cos * down + sin * right + (height - 1) / 2,
            cos * right - sin * down + (width - 1) / 2,
        ]
        turn = functools.partial(map_coordinates, coordinates=places, order=1, cval=self.fill)
        return fnp.stack([turn(x[i]) for i in range(x.shape[0])])


class RandomResizedCrop(Transform):
    """Cut out a piece of any size and nearly any shape, and scale it.

    Args:
        size: height and width that come out, or one number for both.
        scale: smallest and largest share of the area.
        ratio: smallest and largest ratio of width to height.

    References:
        Szegedy et al., "Going deeper with convolutions", CVPR (2015).
    """

    random = True

    def __init__(
        self,
        size: int | tuple[int, int],
        scale: tuple[float, float] = (0.08, 1.0),
        ratio: tuple[float, float] = (3 / 4, 4 / 3),
    ) -> None:
        self.size = _pair(size)
        self.scale = scale
        self.ratio = ratio

    def draw(self, key: Any, x: Any) -> Any:
        """Cut and scale."""
        k1, k2, k3 = random.split(key, 3)
        shape = np.array(x.shape[-2:], np.float32)
        area = shape.prod() * random.uniform(k1, (), x.dtype, *self.scale)
        ratio = fnp.exp(random.uniform(k2, (), x.dtype, *map(math.log, self.ratio)))
        extent = fnp.minimum(fnp.sqrt(area * fnp.stack([1 / ratio, ratio])), shape)
        start = random.uniform(k3, (2,), x.dtype) * (shape - extent)
        zoom = np.array(self.size, np.float32) / extent
        return funtorch.image.scale_and_translate(
            x, (x.shape[0], *self.size), (1, 2), zoom, -start * zoom, "linear"
        )


class RandomErasing(Transform):
    """Overwrite a rectangle.

    Args:
        p: how probable that is.
        scale: smallest and largest share of the area.
        ratio: smallest and largest ratio of width to height.
        value: what is written.

    References:
        Zhong et al., "Random erasing data augmentation", AAAI (2020).
    """

    random = True

    def __init__(
        self,
        p: float = 0.5,
        scale: tuple[float, float] = (0.02, 0.33),
        ratio: tuple[float, float] = (0.3, 3.3),
        value: float = 0.0,
    ) -> None:
        self.p = p
        self.scale = scale
        self.ratio = ratio
        self.value = value

    def draw(self, key: Any, x: Any) -> Any:
        """Overwrite, or not."""
        keys = random.split(key, 4)
        height, width = x.shape[-2:]
        area = height * width * random.uniform(keys[0], (), fnp.float32, *self.scale)
        ratio = fnp.exp(random.uniform(keys[1], (), fnp.float32, *map(math.log, self.ratio)))
        extent = fnp.minimum(
            fnp.sqrt(area * fnp.stack([1 / ratio, ratio])), np.array([height, width], np.float32)
        )
        start = random.uniform(keys[2], (2,)) * (np.array([height, width]) - extent)
        rows, columns = fnp.arange(height)[:, None], fnp.arange(width)
        inside = (rows >= start[0]) & (rows < start[0] + extent[0])
        inside &= (columns >= start[1]) & (columns < start[1] + extent[1])
        return fnp.where(inside & random.bernoulli(keys[3], self.p), self.value, x).astype(x.dtype)


class ColorJitter(Transform):
    """Change brightness, contrast and saturation.

    Args:
        brightness: the largest change, as a share: a factor between ``1 - b`` and ``1 + b``.
        contrast: likewise, about the mean grey of the image.
        saturation: likewise, about the grey of each pixel; needs three channels.
    """

    random = True

    def __init__(
        self, brightness: float = 0.0, contrast: float = 0.0, saturation: float = 0.0
    ) -> None:
        self.limits = (brightness, contrast, saturation)

    def draw(self, key: Any, x: Any) -> Any:
        """Change."""
        draws = random.uniform(key, (3,), x.dtype, -1, 1) * np.array(self.limits, x.dtype) + 1
        x = x * draws[0]
        x = (x - _grey(x).mean()) * draws[1] + _grey(x).mean()
        return (x - _grey(x)) * draws[2] + _grey(x) if self.limits[2] else x


def _grey(x: Any) -> Any:
    if x.shape[-3] == 1:
        return x
    if x.shape[-3] != 3:
        raise ValueError(
            f"grey is made of 1 or 3 channels (axis -3); the image has shape {x.shape}"
        )
    shares = np.array([0.299, 0.587, 0.114], x.dtype).reshape(3, 1, 1)
    return (x * shares).sum(axis=-3, keepdims=True)


def _image(transform: Transform, x: Any) -> Any:
    x = fnp.asarray(x)
    if x.ndim < 3:
        raise ValueError(
            f"{type(transform).__name__} takes images (..., channels, height, width), got shape "
            f"{x.shape}; ToTensor makes such ones"
        )
    return x


def _pair(size: int | tuple[int, int]) -> tuple[int, int]:
    return (size, size) if isinstance(size, int) else (int(size[0]), int(size[1]))


def _check_fits(transform: Transform, size: tuple[int, int], shape: tuple[int, ...]) -> None:
    if size[0] > shape[-2] or size[1] > shape[-1]:
        raise ValueError(
            f"{type(transform).__name__} cannot cut {size} out of images of shape {shape}; pad "
            "them first"
        )
