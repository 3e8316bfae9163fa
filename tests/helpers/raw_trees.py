"""Raw folders of all eleven datasets, built from real rows of their metadata, with the traps that lie in them.

The sounds are noise of a tenth of a second. `EXPECTED` says what prep must make of each.
"""

# ruff: noqa: E501 - rows as published

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import soundfile

# dataset → (clip ids by split, dropped paths or ids by reason)
Outcome = tuple[dict[str, list[str]], dict[str, list[str]]]
EXPECTED: dict[str, Outcome] = {}
BUILDERS: dict[str, Callable[[Path], None]] = {}


def sound(path: Path, suffix: str = "", channels: int = 1, sample_rate: int = 8_000) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    wav = np.random.default_rng(len(str(path))).uniform(-0.5, 0.5, (sample_rate // 10, channels))
    with path.open("wb") as file:
        soundfile.write(file, wav, sample_rate, format=(suffix or path.suffix).lstrip(".").upper())


def table(path: Path, rows: str, newline: str = "\n", encoding: str = "utf-8") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(rows.lstrip("\n").replace("\n", newline).encode(encoding))


def junk(folder: Path) -> None:
    """What operating systems leave behind."""
    for name in ("._sound.wav", ".DS_Store", "Thumbs.db", "__MACOSX/._sound.wav", "notes.txt"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"junk")


def audioset(folder: Path) -> None:
    """PANNs' layout: `Y` before the id, because ids begin with dashes; one list went through a spreadsheet."""
    table(
        folder / "metadata/class_labels_indices.csv",
        """
index,mid,display_name
0,/m/09x0r,"Speech"
32,/t/dd00003,"Male singing"
34,/t/dd00005,"Child singing"
75,/m/0bt9lr,"Dog"
73,/m/068hy,"Domestic animals, pets"
375,/m/012xff,"Toothbrush"
419,/m/03l9g,"Hammer"
429,/m/032s66,"Gunshot, gunfire"
""",
    )
    comments = """
# Segments csv created Sun Mar  5 10:54:31 2017
# num_ytids=22160, num_segs=22160, num_unique_labels=527, num_positive_labels=52882
# YTID, start_seconds, end_seconds, positive_labels
"""
    table(
        folder / "metadata/balanced_train_segments.csv",
        comments
        + """--PJHxphWEs, 30.000, 40.000, "/m/09x0r,/t/dd00088"
--ZhevVpy1s, 50.000, 60.000, "/m/012xff"
--aO5cdqSAg, 30.000, 40.000, "/t/dd00003,/t/dd00005"
--aaILOrkII, 200.000, 210.000, "/m/032s66,/m/073cg4"
""",
    )
    table(
        folder / "metadata/unbalanced_train_segments.csv",
        comments
        + """#NAME?,30,40,"/m/032s66"
7fmOlUlwoNg, 20.000, 30.000, "/m/03l9g"
YabcdefghiA, 20.500, 30.500, "/m/03l9g"
,,,
""",
        "\r\n",
    )
    table(
        folder / "metadata/eval_segments.csv",
        comments
        + """--4gqARaEJE, 0.000, 10.000, "/m/068hy,/m/0bt9lr"
--BfvyPmVMo, 20.000, 30.000, "/m/03l9g"
""",
    )
    audios = folder / "audios"
    for name in ("Y--PJHxphWEs", "Y--ZhevVpy1s", "Y--aaILOrkII"):
        sound(audios / f"balanced_train_segments/{name}.wav")
    sound(audios / "unbalanced_train_segments/unbalanced_train_segments_part00/Y7fmOlUlwoNg.wav")
    sound(audios / "unbalanced_train_segments/unbalanced_train_segments_part00/YYabcdefghiA.wav")
    sound(audios / "eval_segments/--4gqARaEJE_0.0-10.0.ogg")
    sound(audios / "Dog/--4gqARaEJE_0.0-10.0.ogg")  # a copy per label
    (audios / "eval_segments/Y--BfvyPmVMo.wav").write_bytes(b"")
    sound(audios / "eval_segments/Yzzzzzzzzzzz.wav")


EXPECTED["audioset"] = (
    {
        "train": ["--ZhevVpy1s_50", "--aaILOrkII_200", "YabcdefghiA_20.5"],
        "test": ["--4gqARaEJE_0"],
    },
    {
        "speech": ["--PJHxphWEs_30"],
        "missing": ["--aO5cdqSAg_30"],
        "damaged id": ["#NAME? (metadata/unbalanced_train_segments.csv row 1)"],
        "held out": ["7fmOlUlwoNg_20"],
        "unreadable": ["--BfvyPmVMo_20"],
        "copy": ["audios/eval_segments/--4gqARaEJE_0.0-10.0.ogg"],
        "unlisted": ["audios/eval_segments/Yzzzzzzzzzzz.wav"],
    },
)


def bbc(folder: Path) -> None:
    """archive.org's layout, whose names are cut or end in two dots, a flat one, and a sound that is in no list."""
    table(
        folder / "BBCSoundEffects.csv",
        """
"location","description","secs","category","CDNumber","CDName","tracknum"
"07076051.wav","Two-stroke petrol engine driving small elevator, start, run, stop.","194","Engines: Petrol","EC117D","x","4"
"07076037.wav","Triple-expansion, constant run, slow down and speed up at 3'45"". (Marine-type steam engine, 1911)","423","","EC117F","","2"
"07036067.wav","French Café, atmosphere in a busy popular cafe.","413","","EC95B","French Crowds","1"
"07076031.wav","General atmosphere in a busy machine shop with some indistinct speech.","393","","EC57U","Machine Shop","3"
"07037403.wav","Flying Fortress, ticking over. (World War II US bomber.)","38","","EC1001A","","1"
""",
    )
    sounds = folder / "BBCSoundEffectsComplete/sounds"
    sound(
        sounds
        / "Diesel & Petrol Engines/Two-stroke petrol engine driving small elevator, start, run, stop..07076051.wav"
    )
    sound(sounds / "Triple-expansion, constant run, slow down and speed up at 3_45_.07076037.wav")
    sound(folder / "07036067.wav")
    (folder / "broken.json").write_text("{")
    (folder / "table.csv").write_bytes(b"\xff\x00,\n")
    sound(sounds / "Machine Shop/General atmosphere.07076031.wav")
    sound(sounds / "Cameras/A 16 mm projector running at 24 f.p.s..07076044.wav")
    sound(folder / "intro.wav")
    (folder / "BBC_nature_NHU05065069.wav").write_bytes(b"RIFF\0\0\0\0WAVE")


EXPECTED["bbc"] = (
    {"train": ["07076051", "07076037", "07036067", "07076044"]},
    {"speech": ["07076031"], "missing": ["07037403"], "unlisted": ["intro.wav"], "unreadable": ["NHU05065069"]},
)


def audiocaps(folder: Path) -> None:
    """CRLF; test captions of one clip are not adjacent; one split is named by caption numbers, with a file for each."""
    repository = folder / "audiocaps-master"
    table(
        repository / "dataset/train.csv",
        """
audiocap_id,youtube_id,start_time,caption
270,-5weqk40jaI,17,Strong wind against the microphone simultaneously with heavy rain.
11542,3eJ9RynJzP8,80,"The wind is blowing, insects are singing, and rustling occurs"
273,-62RXhX5GZk,30,A man gives a speech
58146,UDGBjjwyaqE,20,Multiple clanging and clanking sounds
""",
        "\r\n",
    )
    header = "audiocap_id,youtube_id,start_time,caption\n"
    table(repository / "dataset/val.csv", f"{header}97151,vfY_TJq7n_U,130,Ducks\n", "\r\n")
    captions = ["Constant rattling noise", "A drill", "a loud buzz", "Speech and a drill", "An engine"]
    rows = [f"10354{number},7fmOlUlwoNg,20,{caption}" for number, caption in enumerate(captions)]
    rows.insert(2, '103548,6BJ455B1aAs,0,"A rocket flies by, followed by an explosion"')
    table(repository / "dataset/test.csv", header + "\n".join(rows) + "\n", "\r\n")
    table(repository / "dataset2.0/test.csv", f"{header}1,7fmOlUlwoNg,20,reworded\n")
    sound(folder / "waveforms/train/Y-5weqk40jaI.wav")
    sound(folder / "waveforms/train/3eJ9RynJzP8_80.flac")
    sound(folder / "waveforms/train/Y-62RXhX5GZk.wav")
    sound(folder / "waveforms/val/vfY_TJq7n_U_130000_140000.flac")
    for number in range(2):
        sound(folder / f"waveforms/test/10354{number}.wav")
    sound(folder / "waveforms/test/Y6BJ455B1aAs.wav")


EXPECTED["audiocaps"] = (
    {
        "train": ["-5weqk40jaI_17", "3eJ9RynJzP8_80"],
        "val": ["vfY_TJq7n_U_130"],
        "test": ["7fmOlUlwoNg_20", "6BJ455B1aAs_0"],
    },
    {"speech": ["-62RXhX5GZk_30"], "missing": ["UDGBjjwyaqE_20"], "copy": ["waveforms/test/103541.wav"]},
)


def clotho(folder: Path) -> None:
    """Names that begin with blanks, hold commas, end twice or occur in two splits; metadata in Latin-1."""
    header = "file_name," + ",".join(f"caption_{number}" for number in range(1, 6)) + "\n"
    four = ",a hum,a hum again,wind,leaves"
    table(
        folder / "clotho_captions_development.csv",
        f"""{header}"Uh, Hi, Mom. I Crashed the Car.wav",A man is talking.{four}
KOOKABURRA..WAV.wav,Birds chirp lightly while a monkey laughs.{four}
 Ambience Birds.wav,A wild assortment of birds are chirping.{four}
 e ieio ieai.wav,"A child speaks, a man yells."{four}
""",
        "\r\n",
    )
    table(folder / "clotho_captions_validation.csv", f"{header}DOG49000%lisbon#the.wav, A toy gun {four}\n", "\r\n")
    table(
        folder / "clotho_captions_evaluation.csv",
        f"{header}FREEZER_DOOR_OPEN_CLOSE.wav,A speech at a fridge{four}\nKOOKABURRA..WAV.wav,Birds{four}\n",
    )
    table(
        folder / "clotho_metadata_development.csv",
        """
file_name,keywords,sound_id,sound_link,start_end_samples,manufacturer,license
 Ambience Birds.wav,Ambience;café,327673,https://freesound.org/x/,"[11162624, 11932169]",José,http://creativecommons.org/licenses/by-nc/3.0/
""",
        encoding="latin-1",
    )
    audio = folder / "clotho_audio_files"
    for name in ("Uh, Hi, Mom. I Crashed the Car.wav", "KOOKABURRA..WAV.wav", " Ambience Birds.wav", "e ieio ieai.wav"):
        sound(audio / "development" / name)
    sound(audio / "clotho_audio_validation/DOG49000%lisbon#the.wav")
    sound(audio / "evaluation/FREEZER_DOOR_OPEN_CLOSE.wav")
    (folder / "clotho_audio_evaluation.7z").write_bytes(b"7z")


EXPECTED["clotho"] = (
    {
        "train": [
            *("development/Uh, Hi, Mom. I Crashed the Car.wav", "development/KOOKABURRA..WAV.wav"),
            *("development/Ambience Birds.wav", "development/e ieio ieai.wav"),
        ],
        "val": ["validation/DOG49000%lisbon#the.wav"],
        "test": ["evaluation/FREEZER_DOOR_OPEN_CLOSE.wav"],
    },
    {"missing": ["evaluation/KOOKABURRA..WAV.wav"]},
)


def vggsound(folder: Path) -> None:
    """No header, labels with commas, three downloaders' names, and a clip of AudioSet's evaluation."""
    table(
        folder / "vggsound.csv",
        """
---g-f_I2yQ,1,people marching,test
--0PQM4-hqg,30,waterfall burbling,train
--9O4XZOge4,30,"female speech, woman speaking",train
--Lj4Y_96f0,120,"bee, wasp, etc. buzzing",train
--BfvyPmVMo,20,hammering nails,train
--DTR0_mIGI,11,people battle cry,train
--EquRwM9IQ,8,playing volleyball,neither
""",
    )
    sound(folder / "audio/---g-f_I2yQ_000001.wav")
    sound(folder / "train/waterfall/v--0PQM4-hqg_30_40_out.flac")
    sound(folder / "audio/--9O4XZOge4_000030.wav")
    sound(folder / "audio/--Lj4Y_96f0_000120.wav")
    sound(folder / "audio/--BfvyPmVMo_000020.wav")
    (folder / "audio/--DTR0_mIGI_000011.mp4").write_bytes(b"not a film")


EXPECTED["vggsound"] = (
    {"train": ["--0PQM4-hqg_000030", "--Lj4Y_96f0_000120"], "test": ["---g-f_I2yQ_000001"]},
    {
        "speech": ["--9O4XZOge4_000030"],
        "held out": ["--BfvyPmVMo_000020"],
        "unreadable": ["--DTR0_mIGI_000011"],
        "damaged row": ["--EquRwM9IQ (vggsound.csv row 7)"],
    },
)


def fsd50k(folder: Path) -> None:
    """Quoted lists of labels with all their ancestors; licences and descriptions in JSON."""
    table(
        folder / "FSD50K.ground_truth/dev.csv",
        """
fname,labels,mids,split
64760,"Electric_guitar,Guitar,Music","/m/02sgy,/m/0342h,/m/04rlf",train
231935,"Bird_vocalization_and_bird_call_and_bird_song,Bird","/m/020bb7,/m/015p6",train
345111,"Motor_vehicle_(road),Vehicle","/m/012f08,/m/07yv9",val
4,"Conversation,Speech,Human_voice","/m/01h8n0,/m/09x0r,/m/09l8g",train
5,"Fireworks,Explosion","/m/0g6b5,/m/014zdl",train
""",
    )
    table(folder / "FSD50K.ground_truth/eval.csv", 'fname,labels,mids\n99,"Chewing_and_mastication","/m/03cczk"\n')
    table(folder / "FSD50K.ground_truth/vocabulary.csv", "0,Accelerating_and_revving_and_vroom,/m/07q2z82\n")
    infos = {
        "64760": {
            "description": "electric guitar",
            "license": "http://creativecommons.org/licenses/sampling+/1.0/",
        },
        "231935": {"description": 'More at <a href="http://x.y">my site</a>\nCredit me!', "license": "CC0"},
    }
    table(folder / "FSD50K.metadata/dev_clips_info_FSD50K.json", json.dumps(infos))
    for name in ("64760", "231935", "345111", "4"):
        sound(folder / f"FSD50K.dev_audio/{name}.wav")
    sound(folder / "FSD50K.eval_audio/99.wav")
    (folder / "FSD50K.dev_audio/5.wav").write_bytes(b"RIFF")


EXPECTED["fsd50k"] = (
    {"train": ["64760", "231935"], "val": ["345111"], "test": ["99"]},
    {"speech": ["4"], "unreadable": ["5"]},
)


def freetousesounds(folder: Path) -> None:
    """Bandcamp names with UCS-like titles, MP3s, and a name that says nothing."""
    prefix = "freetousesounds - Royalty Free Ocean Sounds & Seaside Ambience - 42 "
    sound(folder / f"Ocean/{prefix}AMBSea-LR_Japan-Ambience, Seaside Tajima Island Gravel Stones.mp3")
    sound(folder / "Kalimba/freetousesounds - Sample Pack - 04 MUSCInst, Kalimba, G4-004.wav")
    sound(folder / "Tokyo Streets/Crowd in speech contest.WAV")
    sound(folder / "0001.wav")
    (folder / "Ocean/cover.jpg").write_bytes(b"jpg")


_OCEAN = (
    "Ocean/freetousesounds - Royalty Free Ocean Sounds & Seaside Ambience - 42 "
    "AMBSea-LR_Japan-Ambience, Seaside Tajima Island Gravel Stones.mp3"
)
EXPECTED["freetousesounds"] = (
    {"train": [_OCEAN, "Kalimba/freetousesounds - Sample Pack - 04 MUSCInst, Kalimba, G4-004.wav"]},
    {"speech": ["Tokyo Streets/Crowd in speech contest.WAV"], "no text": ["0001.wav"]},
)

_SONNISS = (
    "Sonniss.com - GDC 2018 - Game Audio Bundle Part 1of8/Sonniss.com - GDC 2018 - Game Audio Bundle Part 1of8/"
    "Discover Oregon – Ocean and Stream/Coast 2014 Coast Mono 1.wav",
    "Sonniss.com - GDC 2017 - Game Audio Bundle/3maze - European Ambiances\t/birds_outside_002_wide.wav",
    "Sonniss.com - GDC 2023 - Game Audio Bundle/Justsoundeffects - Doors/"
    "VEHDoor-INT_Opel Zafira Open Close Drivers Door_JSE_DO_Near Mono.wav",
    "Sonniss.com - GDC 2018 - Game Audio Bundle/Alexander Kopeikin - Prepared Piano/upright piano soviet/"
    "piano string low calm pedal impact 01.WAV",
)


def sonniss(folder: Path) -> None:
    """Doubled tops, an en dash, a folder that ends in a tab, endings in capitals, a film."""
    for path in _SONNISS:
        sound(folder / path)
    (folder / "Sonniss.com - GDC 2017 - Game Audio Bundle/3maze - European Ambiances\t/x.aif").write_bytes(b"FORM")
    (folder / "trailer.mp4").write_bytes(b"film")


EXPECTED["sonniss"] = (
    {"train": list(_SONNISS)},
    {
        "unreadable": ["Sonniss.com - GDC 2017 - Game Audio Bundle/3maze - European Ambiances\t/x.aif"],
        "unlisted": ["trailer.mp4"],
    },
)


def wesoundeffects(folder: Path) -> None:
    """Two folders with one file name."""
    for path in ("Doors/Wood_Slam_01.wav", "Cars/Wood_Slam_01.wav"):
        sound(folder / "We Sound Effects Bundle 2020" / path, channels=2)


EXPECTED["wesoundeffects"] = (
    {"train": [f"We Sound Effects Bundle 2020/{name}/Wood_Slam_01.wav" for name in ("Doors", "Cars")]},
    {},
)

_ODEON = (
    *("Absorb/Collection 1/Absorb 100.wav", "Deep Space Boomers/DSB8.wav", "Humans/Laughwoman.Wav"),
    *("Vehicles/Urban Traffic Ambience/Urban Traffic 1.wav", "Weather/IceCrack2.wav", "Weather/ThunderCrackRoll.wav"),
)


def paramount(folder: Path) -> None:
    """A doubled pack, endings in capitals, films of instructions."""
    for path in _ODEON:
        sound(folder / "Pack/Pack/ODEON Sound Effects" / path)
    (folder / "Pack/Pack/Instructions").mkdir()
    (folder / "Pack/Pack/Instructions/Instructions Adobe Premiere.mp4").write_bytes(b"film")


EXPECTED["paramount"] = (
    {"train": [f"Pack/Pack/ODEON Sound Effects/{path}" for path in _ODEON]},
    {"unlisted": ["Pack/Pack/Instructions/Instructions Adobe Premiere.mp4"]},
)


def esc50(folder: Path) -> None:
    """A spreadsheet's copy of the list."""
    table(
        folder / "ESC-50-master/meta/esc50.csv",
        """
filename,fold,target,category,esc10,src_file,take
1-100032-A-0.wav,1,0,dog,TRUE,100032,A
4-100038-A-14.wav,4,14,chirping_birds,FALSE,100038,A
5-9032-A-0.wav,5,0,dog,TRUE,9032,A
""",
        "\r\n",
    )
    sound(folder / "ESC-50-master/audio/1-100032-A-0.wav")
    sound(folder / "ESC-50-master/audio/4-100038-A-14.flac")


EXPECTED["esc50"] = ({"train": ["1-100032-A-0"], "val": ["4-100038-A-14"]}, {"missing": ["5-9032-A-0"]})

for build in (
    *(audioset, bbc, audiocaps, clotho, vggsound, fsd50k),
    *(freetousesounds, sonniss, wesoundeffects, paramount, esc50),
):
    BUILDERS[build.__name__] = build


def build_raw(raw: Path, *keys: str) -> Path:
    """The raw folders of some datasets, or all."""
    for key in keys or BUILDERS:
        BUILDERS[key](raw / key)
        junk(raw / key)
    return raw
