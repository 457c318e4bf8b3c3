"""SciPy's names on FunTorch arrays."""
