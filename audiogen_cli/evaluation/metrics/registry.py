"""All metrics by name. A new metric is one file and one line here."""

from __future__ import annotations

from audiogen_cli.evaluation.metrics.base import CodecMetric, Metric
from audiogen_cli.evaluation.metrics.clap import ClapScore
from audiogen_cli.evaluation.metrics.class_hits import ClassHitRate
from audiogen_cli.evaluation.metrics.codes import Bitrate, CodebookUse
from audiogen_cli.evaluation.metrics.fad import Fad, FadInfinity
from audiogen_cli.evaluation.metrics.inception import Inception
from audiogen_cli.evaluation.metrics.kl import VARIANTS, KlDivergence
from audiogen_cli.evaluation.metrics.reconstruction import MelDistance, SiSnr, Visqol

GENERATION: dict[str, Metric] = {
    "fad": Fad(),
    "kl": KlDivergence("kl", VARIANTS["kl"]),
    "fad_infinity": FadInfinity(),
    "kl_reverse": KlDivergence("kl_reverse", VARIANTS["kl_reverse"]),
    "kl_exact": KlDivergence("kl_exact", VARIANTS["kl_exact"]),
    "kl_sigmoid": KlDivergence("kl_sigmoid", VARIANTS["kl_sigmoid"]),
    "is": Inception(),
    "clap": ClapScore(),
    "class_hits": ClassHitRate(),
}
CODEC: dict[str, CodecMetric] = {
    "si_snr": SiSnr(),
    "mel_distance": MelDistance(),
    "visqol": Visqol(),
    "bitrate": Bitrate(),
    "code_usage": CodebookUse(),
}
