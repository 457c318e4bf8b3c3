"""The CPU target: LLVM IR, BLAS and threads."""
