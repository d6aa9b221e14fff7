"""Retrieval over photographs with several captions each: COCO and Flickr30k."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import ClassVar

from ...data.readers.sources import find_column, read_source
from .coverage import find_images
from .records import check_sizes
from .retrieval import Retrieval

Captions = dict[str, list[str]]  # captions per image, by the file name of the image


class PhotographRetrieval(Retrieval):
    """Find the captions of each photograph, any of which is a hit, and the photograph of each caption.

    Args:
        annotations (`str` or `Path`): The official file. If it has fewer images and fewer captions than the official
            numbers, a note calls it a subset.
        images (`str` or `Path`): Folder that the file names are relative to.
        captions_per_image (`int` or `"all"`): Captions per image, the first ones of the file.
        ks (sequence of `int`): Depths, >= 1.
        minimum_coverage (`float`): Smallest accepted share of captions whose image is found, in [0, 1].

    Attributes:
        title (`str`): Short name, for columns.
        read (`Callable`): Reads the captions per image from the file.
        num_images, num_captions (`int`): Official numbers.

    Raises:
        ValueError: If the file is damaged or has an unexpected size, an image has too few captions, a file name leads
            outside the folder, or too many images are missing.
    """

    suite = "Retrieval"
    title: ClassVar[str]
    read: Callable[[Path], Captions]
    num_images: ClassVar[int]
    num_captions: ClassVar[int]

    def __init__(
        self,
        annotations: str | Path,
        images: str | Path,
        captions_per_image: int | str = "all",
        ks: Sequence[int] = (1, 5, 10),
        minimum_coverage: float = 1.0,
    ):
        listed = type(self).read(Path(annotations))
        notes = self._check_complete(listed, annotations)
        listed = _first(listed, captions_per_image, annotations)
        notes.append(f"captions per image: {captions_per_image}")
        names = [name for name, captions in listed.items() for _ in captions]
        found = find_images([(images, name) for name in names], minimum_coverage)
        paths = dict(zip(names, found.paths, strict=True))
        kept = [name for name in listed if paths[name] is not None]
        if not kept:
            raise ValueError(f"{images}: all {len(listed)} images are missing")
        if found.missing:
            notes += [*found.notes, "retrieval is easier with fewer candidates: do not compare with complete sets"]
        self.missing_images = found.missing
        self.columns = {  # type: ignore[misc]  # one column per depth
            f"{direction}_recall_{k}": f"{self.title} {short} R@{k}"
            for direction, short in (("image_to_text", "I2T"), ("text_to_image", "T2I"))
            for k in ks
        }
        super().__init__(
            images=[paths[name] for name in kept],
            captions=[caption for name in kept for caption in listed[name]],
            image_of_caption=[position for position, name in enumerate(kept) for _ in listed[name]],
            ks=ks,
            n_listed=len(names),
            notes=notes,
        )

    def _check_complete(self, listed: Captions, source: str | Path) -> list[str]:
        """Compare the numbers of images and captions with the official ones; note a subset."""
        captions = [caption for captions in listed.values() for caption in captions]
        expected = {"images": self.num_images, "captions": self.num_captions}
        if check_sizes({"images": listed, "captions": captions}, expected, source):
            return [
                f"a subset: {len(listed)} of {self.num_images} images and "
                f"{len(captions)} of {self.num_captions} captions of the complete set"
            ]
        return []


def read_karpathy_test(path: Path) -> Captions:
    """Read the test split of one of Karpathy's files.

    Args:
        path (`Path`): JSON object `{"images": [{"filepath": "val2014", "filename": "COCO_val2014_000000000001.jpg",
            "split": "test", "sentences": [{"raw": "A dog sleeps on a red sofa."}]}]}`; `filepath` only with COCO.

    Returns:
        `dict[str, list[str]]`: the raw captions of each image, by `filepath/filename`.

    Raises:
        ValueError: If the file is damaged or has no test image.
    """
    try:
        images = json.loads(path.read_text(encoding="utf-8"))["images"]
        captions = {
            "/".join(filter(None, [image.get("filepath"), image["filename"]])): [s["raw"] for s in image["sentences"]]
            for image in images
            if image["split"] == "test"
        }
    except (json.JSONDecodeError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(
            f"{path}: not a split file of Karpathy ({error!r}); needs images with filename, split and raw sentences"
        ) from error
    if not captions:
        raise ValueError(f"{path}: no images of the test split")
    return captions


def read_coco_captions(path: Path) -> Captions:
    """Read a captions file of COCO.

    Args:
        path (`Path`): JSON object of `images` (`id`, `file_name`) and `annotations` (`image_id`, `caption`).

    Returns:
        `dict[str, list[str]]`: the captions of each image in the order of the file, by file name.

    Raises:
        ValueError: If the file is damaged.
    """
    source = read_source(path, None, ())
    if source.container != "coco":
        raise ValueError(f"{path}: not a captions file of COCO; needs `images` and `annotations`")
    find_column(source, ("caption",))
    captions: Captions = {}
    for number, record in zip(source.numbers, source.records, strict=True):
        name, caption = record.get("file_name"), record.get("caption")
        if not isinstance(name, str) or not isinstance(caption, str):
            raise ValueError(f"{path}, annotation {number}: image {name!r} with caption {caption!r}; needs both")
        captions.setdefault(name, []).append(caption)
    return captions


class CocoRetrieval(PhotographRetrieval):
    """Retrieval on the test images of Karpathy's split of COCO: 5,000 images and 25,010 captions.

    Some images have six or seven captions. Papers use all of them (open_clip, ARO) or five per image; a note records
    the number. The captions are raw: neither lowercased nor shortened.

    Source: https://cs.stanford.edu/people/karpathy/deepimagesent/caption_datasets.zip, `dataset_coco.json`; `images` is
    the folder that holds `val2014`. Schema: see `read_karpathy_test`. Licence: captions CC BY 4.0; images under their
    Flickr terms.

    Reference:
        https://huggingface.co/papers/1412.2306 (split), https://huggingface.co/papers/1504.00325 (captions)
    """

    name = "coco_retrieval"
    title = "COCO"
    read = staticmethod(read_karpathy_test)
    num_images, num_captions = 5000, 25010


class Flickr30kRetrieval(PhotographRetrieval):
    """Retrieval on the test images of Karpathy's split of Flickr30k: 1,000 images and 5,000 captions.

    Source: https://cs.stanford.edu/people/karpathy/deepimagesent/caption_datasets.zip, `dataset_flickr30k.json`; the
    University of Illinois provides the images on request. Schema: see `read_karpathy_test`. Licence: for
    research only.

    Reference:
        https://huggingface.co/papers/1412.2306 (split), https://huggingface.co/papers/1505.04870 (Flickr30k Entities)
    """

    name = "flickr30k_retrieval"
    title = "Flickr30k"
    read = staticmethod(read_karpathy_test)
    num_images, num_captions = 1000, 5000


class CocoVal2017Retrieval(PhotographRetrieval):
    """Retrieval on COCO val2017 with the first five captions of each of the 5,000 images, as in ComAlign.

    Source: https://cocodataset.org, `captions_val2017.json` (25,014 captions); `images` is the folder `val2017`.
    Schema: see `read_coco_captions`. Licence: captions CC BY 4.0; images under their Flickr terms.

    Reference:
        https://huggingface.co/papers/1504.00325
    """

    name = "coco_val2017_retrieval"
    title = "val2017"
    read = staticmethod(read_coco_captions)
    num_images, num_captions = 5000, 25014

    def __init__(
        self,
        annotations: str | Path,
        images: str | Path,
        captions_per_image: int | str = 5,
        ks: Sequence[int] = (1, 5, 10, 50),
        minimum_coverage: float = 1.0,
    ):
        super().__init__(annotations, images, captions_per_image, ks, minimum_coverage)


def _first(listed: Captions, captions_per_image: int | str, source: str | Path) -> Captions:
    """Keep the first captions of each image, or all."""
    if captions_per_image == "all":
        return listed
    if not isinstance(captions_per_image, int) or captions_per_image < 1:
        raise ValueError(f'captions_per_image {captions_per_image!r}; must be at least 1, or "all"')
    few = {name: len(captions) for name, captions in listed.items() if len(captions) < captions_per_image}
    if few:
        name, count = next(iter(few.items()))
        raise ValueError(
            f"{source}: {len(few)} images have fewer than {captions_per_image} captions, such as {name} with {count}"
        )
    return {name: captions[:captions_per_image] for name, captions in listed.items()}
