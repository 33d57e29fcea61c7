"Benchmarks and evaluation for scientific machine learning in JAX."
__version__ = "0.2.0"
