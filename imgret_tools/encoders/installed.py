"""Files of installed packages, reached without importing the packages: open_clip and timm take seconds to import."""

from __future__ import annotations

import importlib
import importlib.util
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

from imgret_tools.errors import EncoderError

_ALIAS = "_imgret_open_clip_data"
_importing = threading.RLock()


def package_folder(name: str) -> Path:
    """Folder of the installed package `name`, which is not imported.

    Raises:
        EncoderError: it is not installed.
    """
    spec = importlib.util.find_spec(name)
    if spec is None or spec.origin is None:
        raise EncoderError(
            "the package {package} is not installed; imgret-tools needs it: install imgret-tools again",
            package=name.replace("_", "-"),
        )
    return Path(spec.origin).parent


def open_clip_module(name: str) -> ModuleType:
    """The data module `name` of open_clip (class names, pretrained tags), loaded without open_clip itself, and torch."""
    if _ALIAS not in sys.modules:
        package = ModuleType(_ALIAS)
        package.__path__ = [str(package_folder("open_clip"))]
        sys.modules[_ALIAS] = package
    with _importing:
        module = sys.modules.get(f"{_ALIAS}.{name}")
        if module is None:
            with _without_safetensors_torch():
                module = importlib.import_module(f"{_ALIAS}.{name}")
            if hasattr(module, "_has_safetensors"):  # it only asks whether the package is there
                setattr(module, "_has_safetensors", importlib.util.find_spec("safetensors") is not None)  # noqa: B010
    return module


@contextmanager
def _without_safetensors_torch() -> Iterator[None]:
    """`import safetensors.torch` fails meanwhile: it imports torch, which takes seconds and is not needed here."""
    name = "safetensors.torch"
    if name in sys.modules:
        yield
        return
    sys.modules[name] = None  # type: ignore[assignment]  # Python's own way to forbid an import
    try:
        yield
    finally:
        del sys.modules[name]
