"""Files of installed packages, reached without importing the packages: open_clip and timm take seconds to import."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from pathlib import Path
from types import ModuleType

from imgret_tools.errors import EncoderError

_ALIAS = "_imgret_open_clip_data"


def package_folder(name: str) -> Path:
    """Folder of the installed package `name`, which is not imported.

    Raises:
        EncoderError: it is not installed.
    """
    spec = importlib.util.find_spec(name)
    if spec is None or spec.origin is None:
        raise EncoderError(
            f"the package {name.replace('_', '-')} is not installed; imgret-tools needs it: install imgret-tools again"
        )
    return Path(spec.origin).parent


def open_clip_module(name: str) -> ModuleType:
    """The data module `name` of open_clip (class names, pretrained tags), loaded without open_clip itself."""
    if _ALIAS not in sys.modules:
        package = ModuleType(_ALIAS)
        package.__path__ = [str(package_folder("open_clip"))]
        sys.modules[_ALIAS] = package
    return importlib.import_module(f"{_ALIAS}.{name}")
