"""Merge adapters into a model folder of its own (`audiogen import MODEL --adapter FOLDER`)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from audiogen_cli.interop.import_audiocraft import check_new, new_folder
from audiogen_cli.lm.adapters import add_adapters, find_adapters
from audiogen_cli.lm.config import LMConfig
from audiogen_cli.model_folder import (
    CODEC_FOLDER,
    PROBE_FILE,
    copy_file,
    copy_model,
    load_config,
    read_license,
    save_model,
)


def merge_adapters(model: Path, given: Sequence[str], out: Path) -> None:
    """Write a model folder whose weights, in float32, are a model's with adapters added; the rest is the model's.

    given: as `find_adapters` takes them. Raises InputError if one does not belong to the model.
    """
    check_new(out)
    adapters = find_adapters(given, model)
    from audiogen_cli.lm.decoder import find_decoder

    lm = find_decoder(load_config(model, "lm", LMConfig)).model_class().load(model)
    add_adapters(lm, adapters)
    with new_folder(out) as temporary:
        save_model(temporary, "lm", load_config(model, "lm", LMConfig), lm.state_dict(), read_license(model))
        copy_model(model / CODEC_FOLDER, temporary / CODEC_FOLDER)
        copy_file(model, temporary, PROBE_FILE)
