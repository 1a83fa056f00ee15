"""One bundle of two: the vision tower of one, the text tower of another trained for it."""

import shutil
from dataclasses import replace
from pathlib import Path

from ..errors import BundleError
from .appearing import appearing
from .bundle import TOKENIZER, Bundle
from .format import Fidelity, FileRecord, Source


def pair(images: Bundle, texts: Bundle, output: Path, overwrite: bool = False) -> Bundle:
    """Joins two towers; whether they were trained for each other, no file says.

    Scores are those of ``images``: its scale was trained, a text tower alone has none. Precisions
    are those that both towers have.

    Args:
        images: Whose vision tower it is.
        texts: Whose text tower it is.
        output: The bundle's folder, which appears complete or not at all.
        overwrite: Replace a bundle that is there already.

    Returns:
        The bundle that was written.

    Raises:
        BundleError: A tower is missing, their vectors differ in width, they have no precision in
            common, a file is damaged, or ``output`` is taken.

    Examples:
        >>> demo = Bundle.read(DEMO)
        >>> pair(demo, demo, Path(folder) / "paired").towers
        ('vision', 'text')
    """
    files, made = _joined(images, texts)
    with appearing(output, overwrite) as fresh:
        for name, source in files.items():
            (fresh / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source / name, fresh / name)
        replace(made, folder=fresh).write()
        if damaged := Bundle.read(fresh).damage():
            raise BundleError(
                f"{', '.join(damaged)} of {images.folder} or {texts.folder} is damaged, its "
                "checksum differs; nothing was written: copy or export it again"
            )
    return Bundle.read(output)


def common_precisions(images: Bundle, texts: Bundle) -> list[str]:
    """Those that the one has of its vision tower and the other of its text tower."""
    return [
        name
        for name, towers in images.precisions.items()
        if "vision" in towers and "text" in texts.precisions.get(name, {})
    ]


def _joined(images: Bundle, texts: Bundle) -> tuple[dict[str, Path], Bundle]:
    """Files by name and where they lie, and the manifest."""
    image, text = images.image_recipe(), texts.text_recipe()
    if images.embedding_dim != texts.embedding_dim:
        raise BundleError(
            f"{images.folder} makes vectors of {images.embedding_dim} numbers, {texts.folder} of "
            f"{texts.embedding_dim}: neither was trained for the other; the card of a text model "
            "says whose images it is for"
        )
    if images.static_batch != texts.static_batch:
        one, other = images.static_batch, texts.static_batch
        raise BundleError(
            f"{images.folder} takes {one or 'any number of'} inputs at a time, {texts.folder} "
            f"{other or 'any number'}: export both alike"
        )
    names = common_precisions(images, texts)
    if not names:
        raise BundleError(
            f"no precision is common to {images.folder} ({', '.join(images.precisions)}) and "
            f"{texts.folder} ({', '.join(texts.precisions)}): export one of them again with fp32"
        )
    files: dict[str, Path] = {TOKENIZER: texts.folder}
    for name in names:
        for bundle, tower in ((images, "vision"), (texts, "text")):
            bundle.require(name, tower)
            of_tower: dict[str, FileRecord] = bundle.tower(name, tower).files
            if shared := files.keys() & of_tower.keys():
                raise BundleError(
                    f"{images.folder} and {texts.folder} both have a file {min(shared)}, of "
                    "different towers: export one of them again"
                )
            files |= dict.fromkeys(of_tower, bundle.folder)
    made = replace(
        images,
        name=f"{images.name} + {texts.name}",
        source=_source(images.source, texts.source),
        image=image,
        text=text,
        tokenizer=texts.tokenizer,
        precisions={
            name: {
                "vision": images.precisions[name]["vision"],
                "text": texts.precisions[name]["text"],
            }
            for name in names
        },
        fidelity={
            name: _fidelity(images.fidelity[name], texts.fidelity[name])
            for name in names
            if name in images.fidelity and name in texts.fidelity
        },
        # Made again in seconds; those of a bundle on the Hub may not be here.
        whole=None,
    )
    return files, made


def _source(images: Source, texts: Source) -> Source:
    """Both, images first; a licence or commit that one lacks, the two lack."""

    def both(first: str | None, second: str | None, between: str = " + ") -> str | None:
        if first is None or second is None:
            return None
        return first if first == second else f"{first}{between}{second}"

    return Source(
        checkpoint=f"{images.checkpoint} + {texts.checkpoint}",
        revision=both(images.revision, texts.revision),
        license=both(images.license, texts.license, " and "),
        architecture=f"{images.architecture} + {texts.architecture}",
        exporter=both(images.exporter, texts.exporter) or "",
    )


def _fidelity(images: Fidelity, texts: Fidelity) -> Fidelity:
    """Each tower's own; how the two answer together was not measured."""
    same = images.data == texts.data
    return Fidelity(
        data=images.data if same else f"images: {images.data}; texts: {texts.data}",
        towers={"vision": images.towers["vision"], "text": texts.towers["text"]},
        top1_agreement=None,
        recall1_change=None,
        forced=images.forced or texts.forced,
    )
