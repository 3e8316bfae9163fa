"""Audio files in and out: probing, reading at one rate in mono, writing (paper sec. 3.1).

Reading: libsndfile for WAV, FLAC, OGG, MP3, AIFF and its other formats, the ffmpeg command (if installed) for the
rest; channels are averaged, then soxr (HQ) resamples. Everything here works in numpy and imports no torch.
"""

from __future__ import annotations

import math
import shutil
import subprocess
import warnings
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import reduce
from pathlib import Path
from typing import IO, Any

import numpy as np

from audiogen_cli.errors import AudiogenError, AudiogenWarning, InputError
from audiogen_cli.files import check_folder, check_name, replacing, temporary_file

SAMPLE_RATE = 16_000  # Hz, the paper's

# The suffixes of audio files, in lower case. libsndfile reads all but FFMPEG_SUFFIXES.
LOSSLESS_SUFFIXES = frozenset(".wav .wave .bwf .flac .aif .aiff .aifc .w64 .rf64 .au .caf".split())  # noqa: SIM905
FFMPEG_SUFFIXES = frozenset(".m4a .m4b .aac .mp4 .mkv .mka .webm .wma .amr .ape .wv".split())  # noqa: SIM905
AUDIO_SUFFIXES = LOSSLESS_SUFFIXES | FFMPEG_SUFFIXES | {".mp3", ".ogg", ".oga", ".opus"}
SOUND_SUFFIXES = AUDIO_SUFFIXES - {".mp4", ".mkv", ".webm"}  # no videos

# What `write_audio` can produce: suffix → libsndfile's (format, subtype), and the subtypes that each can have.
FORMATS = {".wav": ("WAV", "PCM_16"), ".flac": ("FLAC", "PCM_16"), ".ogg": ("OGG", "VORBIS")}
SUBTYPES = {".wav": ("PCM_16", "PCM_24", "FLOAT"), ".flac": ("PCM_16", "PCM_24"), ".ogg": ("VORBIS",)}

# Samples of the lower rate that soxr's HQ filter may look at on either side, with room to spare: a window read with
# this context equals the slice of the whole file within float32 rounding (4e-7 measured over 8 to 192 kHz).
_CONTEXT = 800
# An MP3 frame borrows bits from earlier ones, so the decoder is wrong for a while after a seek: samples to throw away.
_MP3_LEAD_IN = 16 * 1152
OVER_SCALE = 2.0  # peak, of full scale, from which on samples are no louder sound but another unit
CANCELED = 1e-3  # peak of the channels' mean, of theirs, below which one is the other's inverse
_END_SECONDS = 0.05  # of a finished file, read to see that it is whole
_UNKNOWN = 1 << 62  # samples; libsndfile's 'unknown' is 2^63 - 1
_MOST_CHANNELS = 1024  # that libsndfile takes
_MIN_RATE = 1000  # Hz; a small file of 1 Hz would become days of sound
_DOUBTS = ("should be", "does not match")  # libsndfile's words for a size that the file does not have
_LONG_LOG = 2000  # characters, near the least that libsndfile cuts its log at
_MOST_WARNED = 5  # recordings, in a process
# Containers that hold sound themselves: a playlist would have ffmpeg read other files.
_CONTAINERS = (
    "mov,matroska,asf,aac,ac3,eac3,mp3,flac,ogg,wav,w64,aiff,caf,amr,ape,wv,tta,mpegts,mpeg,avi,flv,dts,au,mpc,mpc8"
)
TAGS = ("title", "comment", "software", "license", "copyright")  # that a file may carry
TAG_BYTES = 1_000  # of each
_WRITE_BLOCK = 1 << 16  # libsndfile's Vorbis encoder overflows its stack on one huge write


@dataclass(frozen=True)
class AudioInfo:
    """The header of a file. duration: seconds; n_samples: per channel, at the file's own rate.

    missing: of these samples, those that the file lacks, where that is known without decoding it.
    """

    sample_rate: int
    channels: int
    duration: float
    n_samples: int
    missing: int = 0


def probe(path: Path | str) -> AudioInfo:
    """Read a file's header; samples are decoded only for formats that need ffmpeg.

    Raises InputError, one line, if the file is absent, empty, damaged or not audio.
    """
    with _open(Path(path)) as file:
        duration, missing = file.n_samples / file.samplerate, file.n_samples - file.frames
        return AudioInfo(file.samplerate, file.channels, duration, file.n_samples, missing)


def read_audio(
    path: Path | str, sample_rate: int = SAMPLE_RATE, start: float = 0.0, duration: float | None = None
) -> np.ndarray:
    """Read a file, or a window of it, as mono float32 [n_samples] at `sample_rate`.

    start, duration: seconds, rounded to whole samples at `sample_rate`; a window that passes the end stops there.
    Channels are averaged before resampling. Only the window (and soxr's context around it) is decoded, and it equals
    the slice of the whole resampled file within 1e-6. Values are not clamped: resampling may pass 1 by a little.
    Warns of samples far beyond full scale, and of channels that cancel each other, of which the loudest is read.
    Raises InputError, one line, if the file cannot be read or the window holds no samples.
    """
    path = Path(path)
    if start < 0 or (duration is not None and duration <= 0):
        raise InputError(f"{path}: cannot read {duration} s from {start} s: start must be >= 0 and duration > 0")
    first = round(start * sample_rate)
    with _open(path) as file:
        n_total = round(file.n_samples * sample_rate / file.samplerate)
        last = n_total if duration is None else min(n_total, first + round(duration * sample_rate))
        if first >= last:
            raise InputError(f"{path}: no samples from {start:g} s on, it lasts {file.n_samples / file.samplerate:g} s")
        wav = _read_window(file, path, sample_rate, first, last)
    if not np.isfinite(wav).all():
        raise InputError(f"{path} holds samples that are not finite numbers; convert it again from its source")
    if (peak := find_peak(wav)) > OVER_SCALE:
        warn_about(path, f"samples of {peak:,.0f} times full scale: are they integers stored as floats? Divide them")
    return wav


def read_channels(path: Path | str, start: float = 0.0, duration: float | None = None) -> tuple[np.ndarray, int, str]:
    """Read a file, or a window of it, as it is: samples [n_samples, C] float32, their rate, libsndfile's subtype.

    start, duration: seconds. Raises InputError as `read_audio` does.
    """
    path = Path(path)
    with _open(path) as file:
        first = round(start * file.samplerate)
        last = file.n_samples if duration is None else min(file.n_samples, first + round(duration * file.samplerate))
        lead_in = min(first, _MP3_LEAD_IN) if file.format == "MP3" else 0
        samples = _read_samples(file, path, first - lead_in, last)[lead_in:]
        rate, subtype = file.samplerate, file.subtype
    if not np.isfinite(samples).all():
        raise InputError(f"{path} holds samples that are not finite numbers; convert it again from its source")
    return samples, rate, subtype


def is_whole(path: Path, duration: float) -> bool:
    """Return whether a file lasts as many seconds as it should, and can be read at its end."""
    try:
        info = probe(path)
        read_audio(path, info.sample_rate, start=max(0.0, info.duration - _END_SECONDS))
    except InputError:
        return False
    return abs(info.duration - duration) < 1 / info.sample_rate


def read_tags(path: Path | str) -> dict[str, str]:
    """Read what a file says of itself: those of TAGS that it has. Raises InputError as `probe` does."""
    with _open(Path(path)) as file:
        tags = {name: str(getattr(file, name)).partition(" (libsndfile")[0] for name in TAGS}
    return {name: text for name, text in tags.items() if text}


def clean_tags(tags: Mapping[str, str]) -> dict[str, str]:
    """Bring tags to one line each of at most TAG_BYTES in UTF-8: libsndfile drops what a WAV header cannot hold."""
    lines = {
        name: " ".join("".join(c if c.isprintable() else " " for c in text).split()) for name, text in tags.items()
    }
    return {name: line.encode()[:TAG_BYTES].decode(errors="ignore") for name, line in lines.items() if line}


def write_audio(
    path: Path | str,
    wav: np.ndarray,
    sample_rate: int = SAMPLE_RATE,
    tags: Mapping[str, str] | None = None,
    subtype: str | None = None,
) -> None:
    """Write `wav` [n_samples] or [n_samples, C]; the suffix decides: .wav and .flac with 16 bits, .ogg (Vorbis).

    subtype: another one of SUBTYPES. Values are clamped to [-1, 1] but for FLOAT. The file appears whole or not at all;
    missing folders are created. Reading back a .wav or .flac gives round(32768·wav)/32768, so 16-bit audio survives
    reading and writing bit for bit.
    tags: some of TAGS → text, for RIFF INFO (which has no license) or Vorbis comments.
    Raises ValueError if `wav` is no such array of floats, InputError as `check_format` does, AudiogenError if the disk
    refuses or samples are not finite.
    """
    wav = np.asarray(wav)
    if wav.dtype.kind != "f" or wav.ndim not in (1, 2) or wav.shape[1:] > (_MOST_CHANNELS,):
        raise ValueError(f"wav must be [n_samples] or [n_samples, C] floats in [-1, 1], not {wav.shape} {wav.dtype}")
    write_blocks(Path(path), [wav], sample_rate, tags, subtype, 1 if wav.ndim == 1 else wav.shape[1])


def write_blocks(
    path: Path,
    blocks: Iterable[np.ndarray],
    sample_rate: int = SAMPLE_RATE,
    tags: Mapping[str, str] | None = None,
    subtype: str | None = None,
    channels: int = 1,
) -> int:
    """Write a sound as `write_audio` does, block after block, however long it is; return its number of samples."""
    import soundfile

    check_format(path, sample_rate, channels)
    file_format, usual = format_of(path)
    subtype, n_samples = subtype or usual, 0
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with (
            replacing(path) as temporary,
            soundfile.SoundFile(temporary, "w", sample_rate, channels, subtype, format=file_format) as file,
        ):
            for name, text in clean_tags(tags or {}).items():
                setattr(file, name, text)
            for block in blocks:
                if not np.isfinite(block).all():
                    raise AudiogenError(f"{path}: not written: samples are not finite numbers")
                for begin in range(0, len(block), _WRITE_BLOCK):
                    file.write(_to_subtype(block[begin : begin + _WRITE_BLOCK], subtype))
                n_samples += len(block)
    except (OSError, RuntimeError) as error:  # soundfile's errors are RuntimeErrors
        reason = getattr(error, "strerror", None) or str(getattr(error, "error_string", error))
        if reason == "System error.":  # libsndfile's only word for whatever the system refuses
            reason = "the disk is full, or refuses to be written to"
        raise AudiogenError(f"{path}: cannot be written: {reason}") from None
    return n_samples


def _to_subtype(wav: np.ndarray, subtype: str) -> np.ndarray:
    """Convert samples to what libsndfile writes as `subtype` unchanged: float32, 24 bits in the upper of 32, or 16."""
    if subtype == "FLOAT":
        return np.asarray(wav, np.float32)
    if subtype == "PCM_24":
        whole = np.clip(np.rint(np.asarray(wav, np.float64) * 2**23), -(2**23), 2**23 - 1)
        return whole.astype(np.int32) << 8
    return pcm16(wav)


def pcm16(wav: np.ndarray) -> np.ndarray:
    """Convert samples to 16-bit integers, clamped.

    Scaled by hand: libsndfile writes with 32767 but reads with 32768, which would change loud 16-bit samples.
    """
    return np.clip(np.rint(np.asarray(wav, np.float64) * 32768), -32768, 32767).astype(np.int16)


def check_output(path: Path | str, tried: set[Path] | None = None) -> None:
    """Refuse an output file before any work is done for it.

    tried: folders that can be written to, which are not tried again; the file's is added.
    Raises InputError if the suffix is not supported, or if its folder is not writable and cannot be created.
    """
    path = Path(path)
    if path.is_dir():
        raise InputError(f"-o {path} is a folder; give a file, such as {path / 'sound.wav'}, or --out-dir {path}")
    format_of(path)
    check_name(path)
    if tried is not None and path.parent in tried:
        return
    try:
        check_folder(path.absolute().parent)
    except InputError as error:
        raise InputError(f"{path}: {error}") from None
    if tried is not None:
        tried.add(path.parent)


def check_format(path: Path, sample_rate: int, channels: int = 1) -> None:
    """Raise InputError if a file of this suffix cannot hold so many samples a second, or channels."""
    is_flac = channels <= 8 and (sample_rate < 1 << 16 or (sample_rate % 10 == 0 and sample_rate <= 655_350))
    is_ogg = channels <= 255 and sample_rate <= 200_000  # beyond, libvorbis ends the process
    if not {"FLAC": is_flac, "OGG": is_ogg}.get(format_of(path)[0], True):
        raise InputError(f"{path}: {path.suffix} cannot hold {sample_rate} Hz in {channels} channels; a .wav file does")


def format_of(path: Path) -> tuple[str, str]:
    """Return libsndfile's format and usual subtype for a file's suffix. Raises InputError if it has none of FORMATS."""
    if not path.suffix:
        raise InputError(f"-o {path}: end the file's name in {', '.join(FORMATS)}; for a folder: --out-dir {path}")
    if path.suffix.lower() not in FORMATS:
        raise InputError(f"{path}: cannot write '{path.suffix}' audio; end the name in {', '.join(FORMATS)}")
    return FORMATS[path.suffix.lower()]


def _read_window(file: Any, path: Path, sample_rate: int, first: int, last: int) -> np.ndarray:
    """Read samples [first, last) of the resampled file from an open SoundFile."""
    import soxr

    divisor = math.gcd(file.samplerate, sample_rate)
    period, step = file.samplerate // divisor, sample_rate // divisor  # period samples in are step samples out
    context = math.ceil(_CONTEXT * max(1.0, period / step)) if period != step else 0
    # A beginning at a multiple of `period` falls on a sample of both rates, so the filter keeps its phase.
    begin = max(0, first * period // step - context) // period * period
    end = min(file.n_samples, math.ceil(last * period / step) + context)
    lead_in = min(begin, _MP3_LEAD_IN) if file.format == "MP3" else 0
    mono = downmix(_read_samples(file, path, begin - lead_in, end)[lead_in:], path)
    wav = mono if period == step else soxr.resample(mono, file.samplerate, sample_rate, quality="HQ")
    offset = first - begin // period * step
    return np.ascontiguousarray(wav[offset : offset + last - first], dtype=np.float32)


def _read_samples(file: Any, path: Path, begin: int, end: int) -> np.ndarray:
    """Read samples [begin, end) of an open SoundFile: [n, C] float32."""
    try:
        if begin:
            file.seek(min(begin, file.frames))
        samples: np.ndarray = file.read(end - begin, dtype="float32", always_2d=True)
    except RuntimeError as error:
        raise InputError(f"{path}: damaged, cannot be decoded ({error})") from None
    if len(samples) < end - begin:
        raise InputError(f"{path}: damaged or cut short: {end - begin - len(samples)} samples are missing")
    return samples


def downmix(samples: np.ndarray, path: Path) -> np.ndarray:
    """Average channels [n_samples, C] to [n_samples]; numpy's mean along so short an axis takes six times as long."""
    total: np.ndarray = reduce(np.add, samples.T)
    if samples.shape[1] == 1:
        return total
    if find_peak(total) < CANCELED * find_peak(samples):
        warn_about(path, "its channels cancel each other; one of them is read alone")
        return np.ascontiguousarray(samples[:, np.abs(samples).max(0).argmax()])
    return np.divide(total, samples.shape[1], out=total)


def find_peak(samples: np.ndarray) -> float:
    """Return the highest magnitude, without a copy of the samples; 0 of none."""
    return max(float(samples.max(initial=0.0)), -float(samples.min(initial=0.0)))


_warned = set[Path]()


def warn_about(path: Path, what: str) -> None:
    """Warn of a recording; of the first few in a process alone."""
    if path in _warned or len(_warned) >= _MOST_WARNED:
        return
    _warned.add(path)
    rest = "; no more recordings will be named" if len(_warned) == _MOST_WARNED else ""
    warnings.warn(f"{path}: {what}{rest}", AudiogenWarning, stacklevel=3)


@contextmanager
def _open(path: Path) -> Iterator[Any]:
    """Open `path` as a SoundFile, through ffmpeg where libsndfile does not know the format, or the length.

    Its `n_samples` are those that its header tells of, its `frames` those that are there as far as libsndfile knows.
    """
    import soundfile

    if not (path.is_file() or path.is_dir()) and path.exists():
        raise InputError(f"{path}: neither a file nor a folder")  # a pipe would be waited for
    try:
        file = soundfile.SoundFile(path)
        if file.frames >= _UNKNOWN:  # FLAC that was written to a pipe
            file.close()
            raise RuntimeError("its header does not tell how long it is")
    except (OSError, RuntimeError, TypeError) as error:  # TypeError: a headerless .raw file
        if not path.is_file():
            raise InputError(f"{path}: {'a folder, not an audio file' if path.is_dir() else 'no such file'}") from None
        if path.stat().st_size == 0:
            raise InputError(f"{path} is empty (0 bytes)") from None
        reason = str(getattr(error, "error_string", error)).rstrip(".")
        with temporary_file() as decoded:
            _decode_by_ffmpeg(path, decoded, reason)
            with soundfile.SoundFile(decoded.fileno(), closefd=False) as file:
                yield _checked(file, path)
        return
    with _with_length(file, path) as file:
        yield _checked(file, path)


def _with_length(file: Any, path: Path) -> Any:
    """Open a file anew, if its header does not say how long it is, with one that does."""
    import soundfile

    if file.format != "MP3" and file.frames:
        return file
    from audiogen_cli.data.headers.mp3 import count_frames
    from audiogen_cli.data.headers.spliced import SplicedFile
    from audiogen_cli.data.headers.wav import count_bytes

    mended = count_frames(path) if file.format == "MP3" else count_bytes(path)
    if mended is None:
        return file
    file.close()
    return soundfile.SoundFile(SplicedFile(path, *mended))


def _checked(file: Any, path: Path) -> Any:
    """Check a file's numbers and set its `n_samples`: `frames`, more of them where the header tells of more."""
    if not 0 < file.frames < _UNKNOWN:
        raise InputError(f"{path} holds no audio samples")
    if file.samplerate < _MIN_RATE:
        raise InputError(f"{path}: {file.samplerate} samples a second are no sound")
    log, n_there, n_promised = file.extra_info, 1, 1  # libsndfile's, of the header: no second opening of every file
    if any(word in log for word in _DOUBTS) or len(log) > _LONG_LOG:
        from audiogen_cli.data.headers.wav import count_blocks

        n_there, n_promised = count_blocks(path)
    file.n_samples = file.frames * n_promised // max(1, n_there)
    return file


def _decode_by_ffmpeg(path: Path, decoded: IO[bytes], reason: str) -> None:
    """Write the samples of `path` to a file, as 32-bit float W64. reason: why libsndfile could not read it."""
    if shutil.which("ffmpeg") is None:
        raise InputError(
            f"{path}: cannot be read as audio ({reason}); what libsndfile cannot read needs the ffmpeg command"
        )
    command = ["ffmpeg", "-nostdin", "-y", "-v", "error", "-protocol_whitelist", "file", "-format_whitelist"]
    command += [_CONTAINERS, "-i", f"file:{path}", "-map", "0:a:0", "-c:a", "pcm_f32le", "-f", "w64", "/dev/stdout"]
    result = subprocess.run(command, stdout=decoded, stderr=subprocess.PIPE, text=True, errors="replace")
    if result.returncode != 0:
        lines = result.stderr.strip().splitlines() or [f"exit code {result.returncode}"]
        raise InputError(f"{path}: cannot be read as audio ({reason}; ffmpeg: {lines[-1].strip()})")
    decoded.seek(0)
