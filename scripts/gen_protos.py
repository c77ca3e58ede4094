"""Generate sdk/perdure/wire from protos/. With --check, only tell whether it is fresh."""

from __future__ import annotations

import filecmp
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

ROOT = Path(__file__).resolve().parent.parent
PROTOS = ROOT / "protos"
TARGET = ROOT / "sdk"
GENERATED = "perdure/wire"


def generate(target: Path) -> None:
    # The path of a .proto below protos/ is the import path of its module, because protoc
    # derives one from the other and has no option to make imports relative.
    protos = sorted(path.relative_to(PROTOS) for path in PROTOS.rglob("*.proto"))
    outputs = [f"--{kind}_out={target}" for kind in ("python", "mypy", "grpc_python", "mypy_grpc")]
    tool = [sys.executable, "-m", "grpc_tools.protoc", f"-I{PROTOS}"]
    done = subprocess.run(
        [*tool, *outputs, *map(str, protos)],
        check=False,
        capture_output=True,
        text=True,
        cwd=PROTOS,
    )
    if done.returncode:
        raise SystemExit(done.stderr)


def stale_files(fresh: Path) -> list[str]:
    made = {path.relative_to(fresh) for path in fresh.rglob("*_pb2*") if path.is_file()}
    committed = {
        path.relative_to(TARGET)
        for path in (TARGET / GENERATED).rglob("*_pb2*")
        if path.suffix != ".pyc"
    }
    changed = {
        path
        for path in made & committed
        if not filecmp.cmp(fresh / path, TARGET / path, shallow=False)
    }
    return sorted(map(str, changed | (made ^ committed)))


def main() -> int:
    if "--check" not in sys.argv[1:]:
        generate(TARGET)
        return 0
    with TemporaryDirectory() as folder:
        generate(Path(folder))
        stale = stale_files(Path(folder))
    for path in stale:
        print(f"stale: sdk/{path}; run scripts/gen_protos.py")
    return bool(stale)


if __name__ == "__main__":
    sys.exit(main())
