"""The user's module, imported once for the classes that it registers."""

from __future__ import annotations

import importlib
import sys
import traceback
from pathlib import Path
from types import ModuleType

from perdure.errors import ConfigError

__all__ = ["import_app"]


def import_app(app: str) -> ModuleType:
    """Import an app, never as `__main__`: what a script guards with `__name__` is not run.

    Args:
        app: A path (`shop/app.py`: its folder comes first on `sys.path`, as when Python runs
            the file) or the name of a module (`shop.app`, found from the current folder).

    Raises:
        ConfigError: It is not there, or its import raised: the text says where.
    """
    path = Path(app)
    if path.suffix == ".py" or "/" in app:
        path = path.resolve()
        if not path.is_file():
            raise ConfigError(f"the app {app} is not there: {path} is no file")
        folder, name = path.parent, path.stem
        if not name.isidentifier():
            raise ConfigError(f"the app {app} cannot be imported: {name!r} is no name of a module")
    else:
        folder, name = Path.cwd(), app
    if str(folder) not in sys.path[:1]:
        sys.path.insert(0, str(folder))
    try:
        module = importlib.import_module(name)
    except (Exception, SystemExit) as error:
        raise ConfigError(f"the app {app} cannot be imported: {_reason(error)}") from error
    found = getattr(module, "__file__", None)
    if path.is_absolute() and (found is None or Path(found).resolve() != path):
        raise ConfigError(
            f"the app {app} cannot be imported: the name {name!r} belongs to {found or 'Python'}: "
            f"give the file another name"
        )
    return module


def _reason(error: BaseException) -> str:
    """Return the last line of a traceback, and the user's line that it came from."""
    what = traceback.format_exception_only(error)[-1].strip()
    if isinstance(error, SyntaxError):
        return f"{what} ({error.filename}, line {error.lineno})"
    frames = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if frame.filename != __file__ and not frame.filename.startswith(("<frozen", "<string"))
    ]
    # The import machinery itself (`importlib/__init__.py`) is no place to look.
    frames = [frame for frame in frames if frame.filename != importlib.__file__]
    if not frames:
        return what
    return f"{what} ({frames[-1].filename}, line {frames[-1].lineno})"
