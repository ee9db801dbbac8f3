"""Settings: what a process was told from outside. The only module that reads the environment.

| variable            | field          | meaning                                                                     |
|---------------------|----------------|-----------------------------------------------------------------------------|
| `IMGRET_DATA_DIR`   | `data_dir`     | libraries and caches; default: the platform's user data folder              |
| `IMGRET_CACHE_DIR`  | `cache_dir`    | networks converted to ONNX once; default: `cache` in the data folder        |
| `IMGRET_ROOTS`      | `roots`, `addresses` | folders, and addresses such as `s3://bucket`, that tools may read, separated by os.pathsep; default: the working folder, unless that is `/` or the home folder |
| `IMGRET_ENCODER`    | `encoder`      | what a new library starts with; default `auto`                              |
| `IMGRET_DEVICE`     | `device`       | torch device; default: cuda, else mps, else cpu                             |
| `IMGRET_CHROMA_URL` | `chroma_url`   | a Chroma server instead of the embedded one, `http://HOST:PORT` or `https://HOST` |
| `IMGRET_CHROMA_TENANT` | `chroma_tenant` | its tenant; default `default_tenant`                                     |
| `IMGRET_CHROMA_DATABASE` | `chroma_database` | its database; default `default_database`                             |
| `IMGRET_CHROMA_TOKEN` | `chroma_token` | what proves who asks                                                       |
| `IMGRET_CHROMA_HEADER` | `chroma_header` | the header that carries it; default `x-chroma-token`; `Authorization` has it as `Bearer` |
| `SPACE_HOST`        | `hosts`        | names of a Hugging Face Space, which sets it                                |
| `IMGRET_MODEL`      | `model`        | the chat agent's model, `provider:name`; default: the offline one           |
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from urllib.parse import urlsplit

from imgret_tools.errors import BadInput


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


@dataclass(frozen=True, slots=True)
class ChromaServer:
    """A Chroma server and how to come in. `url` is `http://HOST:PORT` or `https://HOST[:PORT]`, without a path.

    Raises:
        BadInput: another kind of URL, or a token or header that cannot be sent.
    """

    url: str
    tenant: str = "default_tenant"
    database: str = "default_database"
    token: str = field(default="", repr=False)
    header: str = "x-chroma-token"
    """The header that carries the token; in `Authorization` it stands as `Bearer TOKEN`."""

    def __post_init__(self) -> None:
        try:
            parts = urlsplit(self.url)
            fits = (
                parts.scheme in ("http", "https")
                and parts.hostname
                and not parts.path.strip("/")
                and "@" not in parts.netloc
            )
            _ = parts.port
        except ValueError:
            fits = False
        if not fits:
            raise BadInput(
                "IMGRET_CHROMA_URL is not the address of a Chroma server; give http://HOST:PORT or https://HOST, without a path "
                "or a password (IMGRET_CHROMA_TOKEN takes a token)."
            )
        if not (self.token + self.header).isascii() or not (self.token + self.header).isprintable():
            raise BadInput(
                "IMGRET_CHROMA_TOKEN or IMGRET_CHROMA_HEADER has a line break or a letter that no header can carry."
            )

    @property
    def port(self) -> int:
        """The URL's port; where it has none, 443 for https and Chroma's own 8000 for http."""
        parts = urlsplit(self.url)
        return parts.port or (443 if parts.scheme == "https" else 8000)

    @property
    def headers(self) -> dict[str, str]:
        """What every request carries."""
        if not self.token:
            return {}
        bearer = self.header.casefold() == "authorization" and " " not in self.token
        return {self.header: f"Bearer {self.token}" if bearer else self.token}


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """One process's settings; `Settings()` takes what it is given and defaults for the rest, never the environment."""

    data_dir: Path = field(default_factory=_default_data_dir)
    roots: tuple[Path, ...] = field(default_factory=_default_roots)
    addresses: tuple[str, ...] = ()
    """Addresses of pictures elsewhere (`s3://bucket/prefix`, `datasets:NAME`) that tools may read; what lies below them too."""
    library: str = "default"
    """What `default` names while no library of that name is there: in the app, the one its page opens."""
    encoder: str = "auto"
    device: str = ""
    chroma_url: str = ""
    chroma_tenant: str = "default_tenant"
    chroma_database: str = "default_database"
    chroma_token: str = field(default="", repr=False)
    chroma_header: str = "x-chroma-token"
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

    @property
    def chroma(self) -> ChromaServer | None:
        """The Chroma server; None is the embedded Chroma of each library.

        Raises:
            BadInput: its address, token or header cannot be used.
        """
        if not self.chroma_url:
            return None
        return ChromaServer(
            self.chroma_url.strip(),
            self.chroma_tenant,
            self.chroma_database,
            self.chroma_token.strip(),
            self.chroma_header.strip(),
        )

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
                ("chroma_tenant", "IMGRET_CHROMA_TENANT"),
                ("chroma_database", "IMGRET_CHROMA_DATABASE"),
                ("chroma_token", "IMGRET_CHROMA_TOKEN"),
                ("chroma_header", "IMGRET_CHROMA_HEADER"),
                ("model", "IMGRET_MODEL"),
            )
            if env.get(variable)
        }
        if env.get("SPACE_HOST"):
            given["hosts"] = tuple(name.strip() for name in env["SPACE_HOST"].split(",") if name.strip())
        if env.get("IMGRET_ROOTS"):
            named = [part for part in re.split(rf"{re.escape(os.pathsep)}(?!//)", env["IMGRET_ROOTS"]) if part]
            given["roots"] = tuple(part for part in named if "://" not in part)
            given["addresses"] = tuple(part.rstrip("/") for part in named if "://" in part)
        return cls(**given)  # type: ignore[arg-type]

    def may_read(self, address: str) -> bool:
        """Whether the owner of this process has named an address, or one above it."""
        return any(address == one or address.startswith(f"{one}/") for one in self.addresses)

    def with_addresses(self, *addresses: str) -> Settings:
        """The same settings with `addresses` readable too."""
        return replace(self, addresses=tuple(dict.fromkeys((*self.addresses, *addresses))))

    def with_roots(self, *folders: str | Path) -> Settings:
        """The same settings with `folders` readable too (what a command line names, its user means to be read)."""
        return replace(
            self, roots=tuple(dict.fromkeys((*self.roots, *(Path(f).expanduser().resolve() for f in folders))))
        )
