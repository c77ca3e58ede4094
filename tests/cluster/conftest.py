"""What the cluster tests share."""

from __future__ import annotations

import shutil

# A client in JavaScript is tested where Node.js is installed, as it is where CI runs.
collect_ignore = [] if shutil.which("node") and shutil.which("npm") else ["test_node_js.py"]
