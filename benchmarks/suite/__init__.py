"""The benchmarks, one a module; each has `run() -> Benchmark`."""

# In the order of docs/performance.md.
NAMES = (
    "latency",
    "fanout",
    "shared",
    "payload",
    "coldstart",
    "warm",
    "workflow",
    "imports",
    "scaffold",
)
