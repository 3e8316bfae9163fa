"""`audiogen tokenize`: encodes the clips of manifests into token shards."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from audiogen_cli.commands.prep import FEW_HOURS
from audiogen_cli.commands.terminal.options import (
    MAX_COUNT,
    MAX_SEED,
    DeviceOption,
    JsonOption,
    ProcessesOption,
    split_names,
)

FAILURES_SHOWN = 5
MAX_COPIES = 1000


def tokenize(
    codec: Annotated[
        str | None,
        typer.Option(
            metavar="FOLDER",
            help="Required: a codec's model folder, run or checkpoint, or a language model for the codec in it;"
            " embedded: the small one in the package.",
            show_default=False,
        ),
    ] = None,
    manifests: Annotated[Path, typer.Option(metavar="PATH", help="Manifest file or folder of manifests.")] = Path(
        "data/manifests"
    ),
    datasets: Annotated[str, typer.Option(metavar="A,B", help="Only these datasets. [default: all]")] = "",
    splits: Annotated[str, typer.Option(metavar="A,B", help="Only these of train, val and test. [default: all]")] = "",
    out: Annotated[
        Path, typer.Option(metavar="FOLDER", help="Folder for the shards; finished shards in it are kept.")
    ] = Path("data/tokens"),
    mix: Annotated[
        int, typer.Option(metavar="N", min=0, max=MAX_COPIES, help="Mixed copies per training clip (paper sec. 4.1).")
    ] = 1,
    copies: Annotated[
        int,
        typer.Option(
            metavar="N", min=0, max=MAX_COPIES, help="Unmixed copies per training clip, each varied by --vary."
        ),
    ] = 0,
    vary: Annotated[
        float, typer.Option(metavar="SHARE", min=0, max=0.5, help="Speed change of copies and mixed sounds, at most.")
    ] = 0.0,
    fill: Annotated[
        float,
        typer.Option(
            metavar="SHARE",
            min=0,
            max=1,
            help="Share of rows whose short sounds are leveled and repeated to fill the silence around them.",
        ),
    ] = 0.0,
    batch_size: Annotated[
        int,
        typer.Option(
            metavar="N", min=1, max=MAX_COUNT, help="Rows read and mixed at once, at least; codes do not depend on it."
        ),
    ] = 16,
    seed: Annotated[int, typer.Option(metavar="N", min=0, max=MAX_SEED, help="Seed of all copies.")] = 0,
    device: DeviceOption = "auto",
    processes: ProcessesOption = 1,
    json_: JsonOption = False,
) -> None:
    """Example: audiogen tokenize --codec runs/codec --datasets esc50 --mix 2

    Turns clips into codes, in shards a language model trains on, and puts the codec beside them; run
    again to resume.
    """
    import json

    from audiogen_cli.commands.terminal.announce import announce, plan_tokenizing
    from audiogen_cli.commands.terminal.progress import progress_bar
    from audiogen_cli.data.augment import AugmentConfig
    from audiogen_cli.data.manifest import load_manifests
    from audiogen_cli.data.totals import manifest_totals
    from audiogen_cli.devices import WAIT, check_device, choose_device
    from audiogen_cli.errors import AudiogenError, InputError, printable
    from audiogen_cli.lock import hold_folder
    from audiogen_cli.model_folder import CODEC_FOLDER, copy_model, find_codec, load_config
    from audiogen_cli.training.launch import relaunch

    check_device(device)
    if codec is None:
        raise InputError(
            "say which codec makes the tokens: --codec FOLDER (audiogen train-codec makes one), or --codec embedded"
            " (the small one in the package)"
        )
    if copies and not (vary or fill):
        raise InputError("--copies without --vary or --fill would repeat rows; add --vary 0.1")
    clips = load_manifests(manifests, split_names(datasets) or None, split_names(splits) or None)
    folder = find_codec(codec)
    if processes > 1:
        return relaunch(processes)
    hold_folder(out)

    from accelerate import PartialState  # slow to import: after all that can be refused without

    from audiogen_cli.codec.config import CodecConfig
    from audiogen_cli.codec.model import AudioCodec
    from audiogen_cli.codec.tokenize import tokenize as run

    state = PartialState(cpu=device != "mps" and choose_device(device).type == "cpu", timeout=WAIT)
    data = manifest_totals(manifests, split_names(datasets), split_names(splits))
    where = state.device if device == "auto" else choose_device(device)
    announce(plan_tokenizing, folder, load_config(folder, "codec", CodecConfig), data, mix, copies, where)
    model = AudioCodec.load(folder, where)
    with progress_bar("tokenizing") as progress:
        result = run(clips, model, out, mix, batch_size, seed, progress, state, AugmentConfig(0, vary, fill), copies)
    if not state.is_main_process:
        return
    copy_model(folder, out / CODEC_FOLDER)
    counts = result.meta.counts
    document = {"out": str(out), "codec": result.meta.codec_fingerprint, **counts, "failed": len(result.failed)}
    typer.echo(json.dumps(document) if json_ else out)
    again = f", {result.outdated} made again: recordings have changed, or can be read now" if result.outdated else ""
    kept = f"({result.kept} were there already{again})"
    typer.echo(f"{counts['rows']} rows in {counts['shards']} shards {kept}", err=True)
    for failure in result.failed[:FAILURES_SHOWN]:
        typer.echo(printable(f"left out: {failure['id']}: {failure['reason']}"), err=True)
    if len(result.failed) > FAILURES_SHOWN:
        typer.echo(f"… and {len(result.failed) - FAILURES_SHOWN} more", err=True)
    if result.failed:
        raise AudiogenError(f"{len(result.failed)} rows could not be read and are left out")
    size = "" if data.hours["train"] >= FEW_HOURS else " --size tiny"
    typer.echo(f"next: audiogen train-lm --tokens {out}{size}", err=True)
