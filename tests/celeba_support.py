"""The files of CelebA in their true forms, made up: pictures of coloured blots, and lists of them."""

import io
import zipfile

import numpy as np
from PIL import Image

# as the header of list_attr_celeba.txt has them
HEADER = (
    "5_o_Clock_Shadow Arched_Eyebrows Attractive Bags_Under_Eyes Bald Bangs Big_Lips Big_Nose Black_Hair Blond_Hair "
    "Blurry Brown_Hair Bushy_Eyebrows Chubby Double_Chin Eyeglasses Goatee Gray_Hair Heavy_Makeup High_Cheekbones Male "
    "Mouth_Slightly_Open Mustache Narrow_Eyes No_Beard Oval_Face Pale_Skin Pointy_Nose Receding_Hairline Rosy_Cheeks "
    "Sideburns Smiling Straight_Hair Wavy_Hair Wearing_Earrings Wearing_Hat Wearing_Lipstick Wearing_Necklace "
    "Wearing_Necktie Young"
)
NAMES = HEADER.split()
ALL = [*range(1, 13), 162_770, 162_771, 182_637, 182_638, 202_599]  # both ends of each official split
ANNOUNCED = f"{len(ALL)}\r\n"


def jpeg(number, size=(178, 218)):
    """Return a picture that no other number has: blots of colour, smooth as a face is."""
    blots = np.random.default_rng(number).integers(0, 256, (7, 6, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(blots).resize(size, Image.Resampling.BICUBIC).save(file, "JPEG", quality=92)
    return file.getvalue()


def has(number):
    """Return the labels of a picture in the order of ``NAMES``: 0 or 1."""
    return np.random.default_rng(number).integers(0, 2, 40).tolist()


def lines(numbers=ALL, labels=has):
    """Return the rows of list_attr_celeba.txt as the official file writes them: -1 and a padded 1."""
    return [
        f"{n:06d}.jpg " + "".join(f" {x}" if x < 0 else f"  {x}" for x in signed(labels(n))) for n in numbers
    ]


def signed(labels):
    return [1 if label else -1 for label in labels]


def text(numbers=ALL, labels=has, end="\r\n"):
    """Return list_attr_celeba.txt: its header ends with a space."""
    return end.join([str(len(numbers)), HEADER + " ", *lines(numbers, labels), ""])


def table(numbers=ALL, comma=","):
    """Return list_attr_celeba.csv."""
    rows = [comma.join([f"{n:06d}.jpg", *map(str, signed(has(n)))]) for n in numbers]
    return "\n".join([comma.join(["image_id", *NAMES]), *rows, ""])


def pack(path, numbers, inside="img_align_celeba/", size=(178, 218)):
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w") as archive:
        for number in numbers:
            archive.writestr(f"{inside}{number:06d}.jpg", jpeg(number, size))
