"""NumPy's names on FunTorch arrays."""
