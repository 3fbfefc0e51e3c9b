"""Readers of real pictures. Without --download an error says where to get the files that are missing."""

from __future__ import annotations

import lvmbench

CELEBA = "photographs of celebrities with 40 labels, cut and sized as asked (research only)"
DSPRITES = "all positions, sizes and turns of three white shapes, 64×64 (Apache-2.0)"
FAIRFACE = "photographs of faces with annotators' impressions of gender, age and race (CC BY 4.0)"
FASHION_MNIST = "garments, 28×28, in grey levels (MIT)"
HF = "a Hugging Face data set, from the hub or a folder (with the extra lvmbench[hf])"
IMAGES = "your own: a folder or zip of pictures with a CSV or Parquet table"
MNIST = "handwritten digits, 28×28, binarised anew at each look (CC BY-SA 3.0)"
OMNIGLOT = "handwritten characters of 8, 30 or 20 alphabets, binarised anew at each look (MIT)"
SHAPES3D = "all colours, sizes, forms and views of a solid in a room, 64×64 (Apache-2.0)"
TORCHVISION = "what torchvision reads: kmnist, svhn, usps, stl10"
UTKFACE = "photographs of faces with age, gender and race in their names (research only)"


@lvmbench.hookimpl
def lvmbench_datasets() -> dict[str, lvmbench.Entry]:
    """Return the readers by name, each imported when it is first asked for."""
    return {
        "images": lvmbench.Entry("lvmbench_images.folder:Images", summary=IMAGES),
        "hf": lvmbench.Entry("lvmbench_images.hf:HuggingFace", summary=HF),
        "celeba": lvmbench.Entry("lvmbench_images.celeba:CelebA", summary=CELEBA),
        "fairface": lvmbench.Entry("lvmbench_images.fairface:FairFace", summary=FAIRFACE),
        "utkface": lvmbench.Entry("lvmbench_images.utkface:UTKFace", summary=UTKFACE),
        "mnist": lvmbench.Entry("lvmbench_images.mnist:MNIST", summary=MNIST),
        "fashion-mnist": lvmbench.Entry("lvmbench_images.mnist:FashionMNIST", summary=FASHION_MNIST),
        "omniglot": lvmbench.Entry("lvmbench_images.omniglot:Omniglot", summary=OMNIGLOT),
        "dsprites": lvmbench.Entry("lvmbench_images.dsprites:DSprites", summary=DSPRITES),
        "shapes3d": lvmbench.Entry("lvmbench_images.shapes3d:Shapes3D", summary=SHAPES3D),
        "torchvision": lvmbench.Entry("lvmbench_images.tv:Torchvision", summary=TORCHVISION),
    }
