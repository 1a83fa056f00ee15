"""Label Studio's pre-annotations: tasks that bring what a model thinks, for people to correct."""

from collections.abc import Iterator, Mapping
from typing import Any

from label_studio_sdk.label_interface import LabelInterface
from label_studio_sdk.label_interface.control_tags import ChoicesTag

from ..classifier import Classifier
from ..clip import Clip
from ..errors import BareclipError
from ..images.inputs import ImageInput


class PreAnnotator:
    """Chooses, for each picture, one of a project's choices.

    Args:
        model: A ``Clip``, which is asked for the choices by their texts; or a classifier whose
            labels are among them, as ``Clip.teach`` makes it.
        config: The project's labelling interface: a picture, and ``<Choices>`` for it.

    Raises:
        BareclipError: The interface has not one set of choices, or the classifier other labels.

    Examples:
        >>> tasks = list(PreAnnotator(bareclip.load(), config).tasks({"cat.jpg": photos[0]}))
        >>> tasks[0]["data"], tasks[0]["predictions"][0]["result"][0]["value"]
        ({'image': 'cat.jpg'}, {'choices': ['cat']})
    """

    def __init__(self, model: Clip | Classifier, config: str) -> None:
        tags = [tag for tag in LabelInterface(config).controls if isinstance(tag, ChoicesTag)]
        if len(tags) != 1:
            raise BareclipError(
                f"the labelling interface has {len(tags)} sets of choices; give one that has one: "
                '<Choices name="..." toName="..."> with a <Choice value="..."/> per label'
            )
        [self._choices] = tags
        known = self._choices.labels
        self._classifier = model if isinstance(model, Classifier) else model.classifier(known)
        if others := {*self._classifier.labels} - {*known}:
            raise BareclipError(
                f"the classifier's labels {', '.join(sorted(others))} are no choices of the "
                f"labelling interface, which has {', '.join(known)}: add them there"
            )

    def tasks(self, pictures: Mapping[str, ImageInput]) -> Iterator[dict[str, Any]]:
        """Tasks to import, as ``json.dump`` takes them.

        Args:
            pictures: By the addresses at which Label Studio finds them.

        Raises:
            ImageError: A picture cannot be read.
            ClassifierError: The classifier was read without a model to embed pictures with.
        """
        name = self._choices.get_object().value_name
        answers = self._classifier.classify(pictures.values(), top=1)
        for address, [best] in zip(pictures, answers, strict=True):
            region = {
                "from_name": self._choices.name,
                "to_name": self._choices.to_name[0],
                "type": "choices",
                "value": {"choices": [best.label]},
            }
            prediction = {
                "model_version": "bareclip",
                "score": best.probability,
                "result": [region],
            }
            yield {"data": {name: address}, "predictions": [prediction]}
