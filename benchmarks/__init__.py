"""Speed against other libraries: `python -m benchmarks` measures every row and prints a table."""
