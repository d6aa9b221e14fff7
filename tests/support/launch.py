"""Scripts run to their end as users start them, in one process or two."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parents[2]
TWO_PROCESSES = ("-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2")


def run_python(*arguments: Any, **environment: str) -> subprocess.CompletedProcess:
    """Run this Python in the repository; the exit status is the caller's to look at."""
    return subprocess.run(
        [sys.executable, *map(str, arguments)],
        cwd=REPOSITORY,
        env={**os.environ, "OMP_NUM_THREADS": "1", **environment},
        capture_output=True,
        text=True,
        timeout=400,
    )


def succeed(*arguments: Any, **environment: str) -> subprocess.CompletedProcess:
    """Run this Python in the repository and fail with what it wrote if it fails."""
    done = run_python(*arguments, **environment)
    assert done.returncode == 0, done.stderr[-8000:]
    return done
