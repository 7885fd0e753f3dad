"""Breaks everything around the executor, and checks what it promises: `make faults`.

    ways (executor, fan-out, pool) ─► door ─► endpoint ─► environments: the real handlers
              │                        │ toxics              │ killed
              ▼                        ▼                     ▼
           verdict ◄───────────── ledger: how often each call's code ran

The table of faults is code (`table`), the run checks it and writes it to docs/reliability.md.
"""
