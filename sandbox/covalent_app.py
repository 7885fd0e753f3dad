"""Runs Covalent's server in this very process: what `covalent start --no-cluster` ends up running.

`covalent start` itself goes through a shell, a second interpreter and one poll a second, and
leaves the server in the background: 5.0 s, and 4.0 s to stop it, against 2.3 s and 0.2 s here.

Usage: python covalent_app.py PORT
"""

import os
import runpy
import sys
from pathlib import Path

import covalent_ui  # type: ignore[import-untyped]
from covalent_dispatcher._db.datastore import workflow_db  # type: ignore[import-untyped]

if __name__ == "__main__":
    workflow_db.run_migrations(logging_enabled=False)
    root = Path(covalent_ui.__file__).parent
    os.chdir(root)
    sys.path[0] = str(root)
    sys.argv = ["app.py", "--port", sys.argv[1], "--no-cluster"]
    runpy.run_path(str(root / "app.py"), run_name="__main__")
