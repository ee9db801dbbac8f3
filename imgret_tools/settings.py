"""Settings: what a process was told from outside. The only module that reads the environment.

| variable            | field          | meaning                                                                     |
|---------------------|----------------|-----------------------------------------------------------------------------|
| `IMGRET_DATA_DIR`   | `data_dir`     | libraries and caches; default: the platform's user data folder              |
| `IMGRET_CACHE_DIR`  | `cache_dir`    | networks converted to ONNX once; default: `cache` in the data folder        |
| `IMGRET_ROOTS`      | `roots`        | folders tools may read, separated by os.pathsep; default: the working folder, unless that is `/` or the home folder |
| `IMGRET_ENCODER`    | `encoder`      | what a new library starts with; default `auto`                              |
| `IMGRET_DEVICE`     | `device`       | torch device; default: cuda, else mps, else cpu                             |
| `IMGRET_CHROMA_URL` | `chroma_url`   | a Chroma server instead of the embedded one                                 |
| `SPACE_HOST`        | `hosts`        | names of a Hugging Face Space, which sets it                                |
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


def _default_roots() -> tuple[Path, ...]:
    """The working folder, unless that is `/`, the home folder or one above it: nobody means all of those by starting there."""
    here = Path.cwd().resolve()
    home = Path.home().resolve()
    return () if here == home or here in home.parents else (here,)


def _default_cache_dir(data_dir: Path) -> Path:
    return data_dir / "cache"


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """One process's settings; `Settings()` takes what it is given and defaults for the rest, never the environment."""

    data_dir: Path = field(default_factory=_default_data_dir)
    roots: tuple[Path, ...] = field(default_factory=_default_roots)
    library: str = "default"
    """What `default` names while no library of that name is there: in the app, the one its page opens."""
    encoder: str = "auto"
    device: str = ""
    chroma_url: str = ""
    model: str = ""
    read_only: bool = False
    hosts: tuple[str, ...] = ()
    """Names under which a Space is asked."""
    only: tuple[str, ...] | None = None
    """The libraries that there are for this process, by name; None: all of the data folder."""
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
        if env.get("SPACE_HOST"):
            given["hosts"] = tuple(name.strip() for name in env["SPACE_HOST"].split(",") if name.strip())
        if env.get("IMGRET_ROOTS"):
            given["roots"] = tuple(part for part in env["IMGRET_ROOTS"].split(os.pathsep) if part)
        return cls(**given)  # type: ignore[arg-type]

    def with_roots(self, *folders: str | Path) -> Settings:
        """The same settings with `folders` readable too (what a command line names, its user means to be read)."""
        return replace(
            self, roots=tuple(dict.fromkeys((*self.roots, *(Path(f).expanduser().resolve() for f in folders))))
        )
