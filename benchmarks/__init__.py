"""Benchmarks beside the peers: `make bench`, or one of them with `make bench ONLY=latency`.

__main__ ─► a benchmark ─► clients, each in a process of its own ─► endpoint ─► environments
                │            ours, public, boto, lithops            Lambda, S3    handlers
                ▼
results ─► report: tables, results.json, plot, docs/performance.md
"""
