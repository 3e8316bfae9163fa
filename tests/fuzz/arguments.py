"""Command lines that nobody should type: numbers beyond sense, bytes that are no text, terminals that know no emoji."""

from __future__ import annotations

from random import Random

NUMBERS = (
    *("-1", "0", "1", "2", "0.5", "1e18", "1e400", "-1e9", "nan", "inf", "-inf", "1000000000", str(2**31), str(2**63)),
    *(str(2**70), "9" * 400, "9" * 5000, "", " ", "x", "1_000", "0x10", "٣", "1,5", "\udcff"),
)
TEXTS = ("", " ", "\udcff", "\ud83d", "\U0001f415", "\0", "a\nb", "\x1b[31mx", "x" * 5000, "é", "e\u0301", "../x", "/")
FLAGS = {
    "generate dog --model lm --seed 1 --duration 0.2 -o new.wav": (
        *(
            "--duration",
            "-n",
            "--seed",
            "--guidance",
            "--top-p",
            "--top-k",
            "--temperature",
            "--candidates",
            "--layers",
        ),
        *("--batch-size", "--negative", "--model", "--device", "-o"),
    ),
    "generate dog --model lm --seed 1 --duration 0.2 --out-dir new": (
        *("--duration", "-n", "--seed", "--prompts", "--batch-size", "--out-dir"),
    ),
    "continue sounds/a.wav --model lm --seed 1 --duration 1.2 -o new.wav": (
        *("--duration", "--prompt-seconds", "--seed", "--top-k", "-o"),
    ),
    "tokenize --manifests manifests --codec light --out new": (
        *("--mix", "--batch-size", "--seed", "--copies", "--vary", "--fill", "--splits", "--datasets", "--codec"),
    ),
    "prep --folder sounds --name mine --out new --workers 1": (
        "--name",
        "--val",
        "--workers",
        "--license",
        "--captions",
    ),
    "train-lm --config lm.yaml --tokens tokens --out new --max-steps 1": (
        "--streams",
        "--set",
        "--config",
    ),
    "eval --reference sounds --generated made --metrics fad --out new": ("--limit", "--seed", "--split", "--metrics"),
    "eval --task listening --score plain --out new": ("--reference-rule", "--seed", "--score"),
    "info lm": ("",),
}
SETTINGS = (
    *("seed", "optim.lr", "optim.batch_size", "optim.micro_batch", "optim.warmup_steps", "workers"),
    *("log_every", "save_every", "validate_every", "validate_samples", "probe_samples", "model.dim", "model.n_layers"),
    *("model.n_heads", "crop_seconds", "bucket_steps", "ema_decay", "text_noise", "sampling.top_k", "model.dropout"),
)


def draw_arguments(random: Random) -> tuple[list[str], bytes, str]:
    """Return a command line, its stdin and the encoding of its output."""
    encoding = random.choice(("utf-8", "utf-8", "cp1252", "ascii"))
    if random.random() < 0.25:
        return _draw_prompts(random, encoding)
    command, flags = random.choice(list(FLAGS.items()))
    flag, arguments = random.choice(flags), command.split()
    value = random.choice((*NUMBERS, *NUMBERS, *TEXTS))
    if flag == "--set":
        value = f"{random.choice(SETTINGS)}={value}"
    return [*arguments, *([flag] if flag else []), value], b"", encoding


def _draw_prompts(random: Random, encoding: str) -> tuple[list[str], bytes, str]:
    """Prompts of strange letters, as arguments or on stdin."""
    texts = [random.choice(TEXTS) for _ in range(2)] + ["a dog barks"]
    if random.random() < 0.5:
        command = ["generate", *texts[:2], "--model", "lm", "--seed", "1", "--duration", "0.2", "--out-dir", "new"]
        return [*command, *(["--json"] if random.random() < 0.5 else [])], b"", encoding
    stdin = "\n".join(texts).encode("utf-8", "surrogatepass" if random.random() < 0.5 else "replace")
    return ["generate", "--prompts", "-", "--model", "lm", "--duration", "0.2", "--out-dir", "new"], stdin, encoding
