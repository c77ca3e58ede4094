"""A client in JavaScript, made from the same .proto files with @grpc/grpc-js."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest
from harness.processes import running_cluster

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(1_200)]

ROOT = Path(__file__).parents[2]


def test_a_node_js_client_creates_calls_and_reads_an_object(tmp_path: Path) -> None:
    # The script lies beside node_modules, where require() looks for packages.
    script = tmp_path / "client.cjs"
    script.write_text((Path(__file__).parent / "node_js_client.cjs").read_text())
    packages = ["@grpc/grpc-js@^1.12", "@grpc/proto-loader@^0.7"]
    install = ["npm", "install", "--no-audit", "--no-fund", "--no-save", *packages]
    subprocess.run(install, cwd=tmp_path, check=True, capture_output=True, timeout=240)

    with running_cluster(ROOT / "examples" / "cart.py", tmp_path / "data") as cluster:
        ran = subprocess.run(
            ["node", str(script), cluster.address, str(ROOT / "protos")],
            check=False,
            capture_output=True,
            text=True,
            timeout=60,
        )
    assert ran.returncode == 0, ran.stderr
    said = json.loads(ran.stdout)

    assert said["created"] == {"lines": {}, "orders": []}
    assert (said["first"], said["second"]) == (1, 3)
    assert said["order"] == said["again"]
    assert said["order"]["$value"][1]["total"] == {"$decimal": "74.70"}
    assert said["state"] == {"lines": {}, "orders": [said["order"]]}
    assert said["refused"] == "UNIMPLEMENTED"
