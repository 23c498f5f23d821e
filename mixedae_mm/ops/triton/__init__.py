"""Homologous attention on GPUs: kernels in Triton."""
