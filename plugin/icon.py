"""The mint's own picture: a small file of the operator's, read once at the start (`cashu-icon`).

It is served by the mint itself: a page that loaded it from elsewhere would tell that place who looks at the page.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

MAX_BYTES = 256 * 1024
SIGNATURES = {
    b"\x89PNG\r\n\x1a\n": "image/png",
    b"\xff\xd8\xff": "image/jpeg",
    b"RIFF": "image/webp",
}
"""How files of these kinds begin. No SVG: that is a document, which can hold more than a picture."""
WEBP = b"WEBP"


@dataclass(frozen=True, slots=True)
class Icon:
    """A picture and its kind."""

    content: bytes
    content_type: str


def read(path: str) -> Icon | None:
    """The picture in a file; None for no path. Raises ValueError with what is wrong with it."""
    if not path:
        return None
    try:
        with Path(path).open("rb") as file:
            content = file.read(MAX_BYTES + 1)
    except (OSError, ValueError) as error:
        raise ValueError(f"cannot be read: {getattr(error, 'strerror', None) or 'this is no path'}") from None
    if len(content) > MAX_BYTES:
        raise ValueError(f"must be at most {MAX_BYTES // 1024} KiB")
    for signature, content_type in SIGNATURES.items():
        if content.startswith(signature) and (content_type != "image/webp" or content[8:12] == WEBP):
            return Icon(content, content_type)
    raise ValueError("must be a PNG, JPEG or WebP picture")
