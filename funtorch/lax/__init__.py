"""The strict operations under funtorch.numpy, and control flow."""
