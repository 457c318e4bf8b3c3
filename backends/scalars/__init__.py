"""Scalar code: one set of formulas, written as LLVM instructions, that all machines print."""
