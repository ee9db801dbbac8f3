"""Settings: what a process was told from outside. The only module that reads the environment.

| variable            | field          | meaning                                                                     |
|---------------------|----------------|-----------------------------------------------------------------------------|
| `IMGRET_DATA_DIR`   | `data_dir`     | libraries and caches; default: the platform's user data folder              |
| `IMGRET_CACHE_DIR`  | `cache_dir`    | networks converted to ONNX once; default: `cache` in the data folder        |
| `IMGRET_ROOTS`      | `roots`        | folders tools may read, separated by os.pathsep; default: the working folder|
| `IMGRET_ENCODER`    | `encoder`      | what a new library starts with; default `auto`                              |
| `IMGRET_DEVICE`     | `device`       | torch device; default: cuda, else mps, else cpu                             |
| `IMGRET_CHROMA_URL` | `chroma_url`   | a Chroma server instead of the embedded one                                 |
| `IMGRET_MODEL`      | `model`        | the chat agent's model, `provider:name`; default: the offline one           |
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path


def _default_data_dir() -> Path:
    import platformdirs  # `imgret --help` needs none

    return Path(platformdirs.user_data_dir("imgret", appauthor=False))


def _default_cache_dir(data_dir: Path) -> Path:
    return data_dir / "cache"


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """One process's settings; `Settings()` takes what it is given and defaults for the rest, never the environment."""

    data_dir: Path = field(default_factory=_default_data_dir)
    roots: tuple[Path, ...] = field(default_factory=lambda: (Path.cwd(),))
    library: str = "default"
    """What `default` names while no library of that name is there: in the app, the one its page opens."""
    encoder: str = "auto"
    device: str = ""
    chroma_url: str = ""
    model: str = ""
    read_only: bool = False
    allow_urls: bool = False
    max_megapixels: int = 200
    pixel_size: int = 64
    cache_dir: Path | None = None
    """Networks converted to ONNX, once for all libraries; made in the data folder when left out."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "data_dir", Path(self.data_dir).expanduser().resolve())
        cache_dir = self.cache_dir or _default_cache_dir(self.data_dir)
        object.__setattr__(self, "cache_dir", Path(cache_dir).expanduser().resolve())
        object.__setattr__(self, "roots", tuple(Path(root).expanduser().resolve() for root in self.roots))

    @classmethod
    def from_env(cls, environ: Mapping[str, str] | None = None) -> Settings:
        """Settings read from `environ` (default: the process's own); empty variables count as unset."""
        env = os.environ if environ is None else environ
        given: dict[str, object] = {
            name: env[variable]
            for name, variable in (
                ("data_dir", "IMGRET_DATA_DIR"),
                ("cache_dir", "IMGRET_CACHE_DIR"),
                ("encoder", "IMGRET_ENCODER"),
                ("device", "IMGRET_DEVICE"),
                ("chroma_url", "IMGRET_CHROMA_URL"),
                ("model", "IMGRET_MODEL"),
            )
            if env.get(variable)
        }
        if env.get("IMGRET_ROOTS"):
            given["roots"] = tuple(part for part in env["IMGRET_ROOTS"].split(os.pathsep) if part)
        return cls(**given)  # type: ignore[arg-type]

    def with_roots(self, *folders: str | Path) -> Settings:
        """The same settings with `folders` readable too (what a command line names, its user means to be read)."""
        return replace(
            self, roots=tuple(dict.fromkeys((*self.roots, *(Path(f).expanduser().resolve() for f in folders))))
        )
