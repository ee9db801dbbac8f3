"""The torch device an encoder runs on."""

from __future__ import annotations

from imgret_tools.errors import BadInput


def resolve_device(device: str = "") -> str:
    """`device` if this torch can use it, else for "" the best there is: cuda, mps, cpu.

    Raises:
        BadInput: torch knows no such device or this machine has none.
    """
    import torch

    if not device:
        return "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    try:
        torch.zeros(1, device=torch.device(device)).sum().item()
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = str(error).strip().splitlines()[0]
        raise BadInput(
            f"device {device!r} cannot be used here ({reason}); expected cpu, cuda, cuda:0 or mps: "
            "leave IMGRET_DEVICE unset to take the best there is"
        ) from None
    return device
