"""What to search for."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from imgret_tools.records import Entry, Scalar


@dataclass(frozen=True, slots=True)
class Query:
    """What to search for: a text, a picture (file, pixels or an indexed entry), or both, less what `not_text` says."""

    text: str | None = None
    image: Path | Image.Image | Entry | None = None
    not_text: str | None = None

    def described(self) -> dict[str, Scalar]:
        """The query as a report shows it."""
        image = self.image
        shown = (
            image.id
            if isinstance(image, Entry)
            else str(image)
            if isinstance(image, Path)
            else image and "uploaded picture"
        )
        return {"text": self.text, "image": shown or None, "not_text": self.not_text}
