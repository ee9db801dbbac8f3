"""Makes torchvision importable beside a CPU build of torch; open_clip and timm import it at their first line.

The registry's torchvision is built for CUDA. Beside `torch+cpu` its compiled operators do not load, and the Python
half, which describes the operator `torchvision::nms`, fails with "operator torchvision::nms does not exist". Nothing
here calls that operator, so it is enough to declare its name. Where torchvision is healthy or missing, nothing is done.
"""

from __future__ import annotations

import importlib
import sys
import threading

_SCHEMAS = (
    "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
)
_lock = threading.Lock()
_kept_alive: list[object] = []  # torch forgets the schemas when their Library is collected


def guard_torchvision() -> None:
    """Import torchvision, with the missing operators declared if that is what it fails for; call before open_clip."""
    import torch

    with _lock:
        try:
            importlib.import_module("torchvision")
        except ModuleNotFoundError:
            return  # open_clip's own message says what is missing
        except RuntimeError as error:
            if "torchvision::" not in str(error) or "does not exist" not in str(error):
                raise
            for name in [name for name in sys.modules if name.partition(".")[0] == "torchvision"]:
                del sys.modules[name]
            library = torch.library.Library("torchvision", "FRAGMENT")  # type: ignore[no-untyped-call]
            for schema in _SCHEMAS:
                library.define(schema)  # type: ignore[no-untyped-call]
            _kept_alive.append(library)
            importlib.import_module("torchvision")
