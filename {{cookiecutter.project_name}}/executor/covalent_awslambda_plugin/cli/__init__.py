"""`covalent-lambda`: what one does with the executor from a shell.

    main ─► one module for each command ─► Output: rich, plain text or JSON
               │ dispatches: Covalent's server, by HTTP
               └ aws, names: clients and settings, as the executor has them

Nothing here is imported where electrons run.
"""
