"""Data sets, and loaders that give their batches: shuffled, in parallel, resumable."""

from . import transforms
from .datasets import (
    ArrayDataset,
    ConcatDataset,
    Dataset,
    MapDataset,
    Subset,
    TensorDataset,
    random_split,
)
from .loader import DataLoader, adapt, default_collate
from .readers import ImageFolder, digits, mnist_5k, read_cifar, read_csv, read_idx, read_image
from .samplers import (
    BatchSampler,
    DistributedSampler,
    RandomSampler,
    Sampler,
    SequentialSampler,
    SubsetRandomSampler,
    WeightedRandomSampler,
)

__all__ = [
    "ArrayDataset",
    "BatchSampler",
    "ConcatDataset",
    "DataLoader",
    "Dataset",
    "DistributedSampler",
    "ImageFolder",
    "MapDataset",
    "RandomSampler",
    "Sampler",
    "SequentialSampler",
    "Subset",
    "SubsetRandomSampler",
    "TensorDataset",
    "WeightedRandomSampler",
    "adapt",
    "default_collate",
    "digits",
    "mnist_5k",
    "random_split",
    "read_cifar",
    "read_csv",
    "read_idx",
    "read_image",
    "transforms",
]
