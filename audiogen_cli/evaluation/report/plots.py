"""The pictures of a report, drawn by matplotlib: curves and bars as SVG, mel spectrograms as PNG, both in the page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from io import BytesIO
from typing import TYPE_CHECKING, Any

import numpy as np

from audiogen_cli.errors import InputError
from audiogen_cli.evaluation.mel import mel_db
from audiogen_cli.evaluation.report.parts import Figure
from audiogen_cli.evaluation.templates import data_uri

if TYPE_CHECKING:
    from collections.abc import Iterator

MEL_WINDOW = 1024  # samples, hop a quarter
MEL_RANGE = 70.0  # dB below the loudest that are shown
# Okabe and Ito's colors, which the color-blind tell apart; and marks, for prints without colors.
COLORS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000")
MARKS = "osD^vPX"
PANEL = (4.2, 3.1)  # inches
FEW_VALUES = 5  # different ones, below which a histogram shows nothing that the table does not
NEEDS_MATPLOTLIB = "--report draws with matplotlib: pip install 'audiogen-cli[report]'"
STYLE: Any = {
    "axes.grid": True,
    "grid.alpha": 0.3,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": "medium",
    "axes.titlelocation": "left",
    "font.family": "DejaVu Sans",  # comes with matplotlib, so that a report looks the same everywhere
    "image.cmap": "magma",
    "svg.fonttype": "path",  # a page must not depend on the reader's fonts
    "svg.hashsalt": "audiogen",
    "text.parse_math": False,  # a name with two dollar signs is no formula
}


@dataclass(frozen=True)
class Line:
    """A curve. points: x → y. intervals: x → ends, where there are any."""

    label: str
    points: Mapping[float, float]
    intervals: Mapping[float, Sequence[float]] | None = None


@dataclass(frozen=True)
class Panel:
    """One pair of axes."""

    title: str
    x: str
    y: str
    lines: Sequence[Line]


def curves(panels: Sequence[Panel], alt: str, caption: str) -> Figure | None:
    """Draw panels, three in a row; None if there is no point to draw. Lines and panels without points are left out."""
    panels = [replace(panel, lines=[line for line in panel.lines if line.points]) for panel in panels]
    panels = [panel for panel in panels if panel.lines]
    if not panels:
        return None
    with _figure(len(panels)) as (figure, axes):
        for axis, panel in zip(axes, panels, strict=False):
            for i, line in enumerate(panel.lines):
                x = sorted(line.points)
                style = {"color": COLORS[i % len(COLORS)], "marker": MARKS[i % len(MARKS)]}
                axis.plot(x, [line.points[at] for at in x], label=line.label, **style)
                if line.intervals:
                    ends = np.array([line.intervals.get(at, [np.nan, np.nan]) for at in x], float)
                    axis.fill_between(x, ends[:, 0], ends[:, 1], color=style["color"], alpha=0.15, linewidth=0)
            axis.set(title=panel.title, xlabel=panel.x, ylabel=panel.y)
            axis.legend(fontsize="small")
        return _save(figure, alt, caption)


def bars(
    groups: Mapping[str, Mapping[str, float]],
    errors: Mapping[str, Mapping[str, Sequence[float]]],
    alt: str,
    caption: str,
) -> Figure:
    """Draw a panel per group with a bar per name. errors: ends of the bars' intervals."""
    with _figure(len(groups)) as (figure, axes):
        for axis, (title, values) in zip(axes, groups.items(), strict=False):
            names, heights = list(values), np.array(list(values.values()))
            axis.barh(range(len(names)), heights, color=COLORS[0], height=0.6)
            found = errors.get(title, {})
            ends = np.array([found.get(name, [value, value]) for name, value in values.items()])
            if found:
                below, above = np.maximum(heights - ends[:, 0], 0), np.maximum(ends[:, 1] - heights, 0)
                axis.errorbar(heights, range(len(names)), xerr=(below, above), fmt="none", ecolor="black", capsize=3)
            axis.set(title=title, yticks=range(len(names)), yticklabels=[_short(name) for name in names])
            axis.invert_yaxis()
        return _save(figure, alt, caption)


def histogram(values: Sequence[float], name: str, caption: str) -> Figure | None:
    """Draw how one number is spread over clips; the dashed line is the mean. None if too few values differ."""
    if len(set(values)) < FEW_VALUES:
        return None
    mean = float(np.mean(values))
    with _figure(1) as (figure, [axis]):
        axis.hist(values, bins=min(40, max(5, len(values) // 5)), color=COLORS[0])
        axis.axvline(mean, color=COLORS[1], linestyle="--", label=f"mean {mean:.3g}")
        axis.set(xlabel=name, ylabel="clips")
        axis.legend(fontsize="small")
        return _save(figure, f"Histogram of {name} over {len(values)} clips, mean {mean:.3g}", caption)


def spectrograms(
    sounds: Mapping[str, np.ndarray], sample_rate: int, alt: str, caption: str, seam: float | None = None
) -> Figure:
    """Draw mel spectrograms on one scale, side by side as in the paper's Figure 4.

    sounds: label → [N]. seam: seconds, where generation starts.
    """
    mels = {label: mel_db(wav, MEL_WINDOW, sample_rate) for label, wav in sounds.items()}
    top = max(float(mel.max()) for mel in mels.values())
    with _figure(len(mels), len(mels), (2.6, 1.9)) as (figure, axes):
        for axis, (label, mel) in zip(axes, mels.items(), strict=True):
            seconds = len(sounds[label]) / sample_rate
            extent = (0, seconds, 0, mel.shape[1])
            axis.imshow(mel.T, origin="lower", aspect="auto", extent=extent, vmin=top - MEL_RANGE, vmax=top)
            if seam is not None and label != "recording":
                axis.axvline(seam, color="white", linestyle="--", linewidth=1.5)
            axis.set_title(label, fontsize="small")
            axis.set(xlabel="seconds", yticks=[])
            axis.grid(False)
        axes[0].set_ylabel("mel band")
        return _save(figure, alt, caption, "png")


def strip(wav: np.ndarray, sample_rate: int) -> str | None:
    """Draw the mel spectrogram of wav [N] without axes, to stand above a player; None if it is silent or too short."""
    if not np.any(wav):
        return None
    try:
        from matplotlib.image import imsave
    except ImportError:
        raise InputError(NEEDS_MATPLOTLIB) from None
    mel = mel_db(wav, MEL_WINDOW, sample_rate).T
    top, content = float(mel.max()), BytesIO()
    image = np.round((np.clip(mel, top - MEL_RANGE, top) - top + MEL_RANGE) / MEL_RANGE * 255).astype(np.uint8)
    imsave(content, image, cmap=STYLE["image.cmap"], vmin=0, vmax=255, origin="lower", metadata={"Software": ""})
    return data_uri(content.getvalue(), "image/png")


@contextmanager
def _figure(n: int, per_row: int = 3, panel: tuple[float, float] = PANEL) -> Iterator[tuple[Any, list[Any]]]:
    """Yield a figure and its axes in reading order, `n` or more."""
    try:
        from matplotlib import rc_context
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure as Canvas
    except ImportError:
        raise InputError(NEEDS_MATPLOTLIB) from None
    columns = min(per_row, n)
    rows = -(-n // columns)
    with rc_context(STYLE):
        # No pyplot: it would keep the figure, and pick a screen to show it on.
        figure = Canvas(figsize=(columns * panel[0], rows * panel[1]), layout="constrained")
        FigureCanvasAgg(figure)
        axes = list(np.atleast_1d(figure.subplots(rows, columns)).flat)
        yield figure, axes


def _save(figure: Any, alt: str, caption: str, kind: str = "svg") -> Figure:
    """Put a figure into the page, as SVG or PNG; axes without data are hidden."""
    for axis in figure.axes:
        axis.set_visible(axis.has_data())
    content = BytesIO()
    options = {"metadata": {"Date": None}} if kind == "svg" else {"metadata": {"Software": None}, "dpi": 110}
    figure.savefig(content, format=kind, facecolor="white", **options)
    return Figure(data_uri(content.getvalue(), "image/svg+xml" if kind == "svg" else "image/png"), alt, caption)


def _short(name: str, most: int = 24) -> str:
    return name if len(name) <= most else name[: most - 1] + "…"
