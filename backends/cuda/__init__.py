"""Programs on NVIDIA GPUs."""
