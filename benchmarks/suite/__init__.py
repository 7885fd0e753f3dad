"""The benchmarks, one a module; each has `run() -> Benchmark`."""
