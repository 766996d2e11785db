"""The names of SageMaker's distributed libraries, on PyTorch's own tools."""
