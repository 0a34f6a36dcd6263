"""The PNG encoder."""

from __future__ import annotations

import io

from vae_gen.images import ByteImages, to_pillow


def encode_png(image: ByteImages) -> bytes:
    """One image [C, H, W], C = 1, 3 or 4, as the content of a PNG file."""
    buffer = io.BytesIO()
    to_pillow(image).save(buffer, "PNG")
    return buffer.getvalue()
