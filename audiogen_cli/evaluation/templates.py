"""HTML pages from templates: values are escaped, and a page holds everything it needs."""

from __future__ import annotations

import base64
from importlib.resources import files
from typing import Any

MIME = {".wav": "audio/wav", ".flac": "audio/flac", ".ogg": "audio/ogg", ".mp3": "audio/mpeg", ".opus": "audio/ogg"}


def render_page(name: str, **values: Any) -> str:
    """Fill in the template `resources/<name>`. Raises jinja2's errors for a missing value."""
    from jinja2 import Environment, FunctionLoader, StrictUndefined

    resources = files("audiogen_cli").joinpath("resources")
    environment = Environment(
        loader=FunctionLoader(lambda path: resources.joinpath(path).read_text("utf-8")),
        autoescape=True,  # prompts may hold HTML; `tojson` escapes them inside scripts, too
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(name).render(**values)


def data_uri(content: bytes, mime: str) -> str:
    """Encode a file's content as a data: address."""
    return f"data:{mime};base64,{base64.b64encode(content).decode('ascii')}"
