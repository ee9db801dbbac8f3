"""What an encoder runs on: the torch device, and how many cores are this process's own."""

from __future__ import annotations

import os
import platform
from functools import cache
from pathlib import Path

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
            "device {device!r} cannot be used here ({reason}); expected cpu, cuda, cuda:0 or mps: leave "
            "IMGRET_DEVICE unset to take the best there is",
            device=device,
            reason=reason,
        ) from None
    return device


def cores(quota: Path = Path("/sys/fs/cgroup/cpu.max")) -> int:
    """How many cores this process may keep busy, at least 1: its affinity, and in a container its quota.

    ONNX Runtime would start a thread for every core of the machine, and in a container of two they take turns.

    Args:
        quota: file of the control group (v2), "MICROSECONDS PERIOD" or "max PERIOD".
    """
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        share, period = quota.read_text(encoding="ascii").split()
        return max(1, min(allowed, round(int(share) / int(period))))
    except (OSError, ValueError):  # no control group, or no limit in it
        return max(1, allowed)


@cache
def processor() -> tuple[str, frozenset[str]]:
    """The processor's name and the features it has, as Linux lists them; elsewhere its kind and none."""
    name, features = platform.processor() or platform.machine(), frozenset[str]()
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return name, features
    for line in lines:
        key, _, value = line.partition(":")
        if key.strip() == "model name":
            name = value.strip()
        elif key.strip() in ("flags", "Features"):
            features = frozenset(value.split())
    return name, features


def has_int8_products() -> bool:
    """Whether the processor sums products of 8-bit numbers in 32 bits, as fast and exact as 8-bit networks want it."""
    return bool(processor()[1] & {"avx_vnni", "avx512_vnni", "amx_int8", "asimddp"})


def machine(*packages: str) -> dict[str, str]:
    """What decides which way to run a network is the fastest here: processor, cores, cards, and versions of packages."""
    name, features = processor()
    cards = " ".join(sorted(path.name for path in Path("/dev").glob("nvidia[0-9]*")))
    own = {"processor": f"{name} ({len(features)} features)", "cores": str(cores()), "cards": cards}
    return own | versions(*packages)


def versions(*packages: str) -> dict[str, str]:
    """The installed version of each package, "" where it is missing; none is imported."""
    from importlib.metadata import PackageNotFoundError, version

    found = {}
    for package in packages:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = ""
    return found
