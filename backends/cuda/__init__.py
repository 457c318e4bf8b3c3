"""The CUDA target: kernels and plans as CUDA C++, compiled by NVRTC."""
