import json

from bareclip.cli.models import KNOWN
from tests.runtime.test_cli import run


def test_models_are_listed_with_what_gets_them() -> None:
    shown = run("models").stdout
    told = json.loads(run("models", "--json").stdout)
    assert "openclip_results.csv" in shown
    assert told["imagenet_source"] in shown
    assert len(told["models"]) == len(KNOWN)
    for model in told["models"]:
        assert model["name"] in shown
        assert model["command"] == (
            f"bareclip export {model['name']} -o {model['name'].rpartition('/')[2]}"
        )


def test_the_facts_are_plausible() -> None:
    assert len({model.name for model in KNOWN}) == len(KNOWN)
    for model in KNOWN:
        assert 50 < model.imagenet < 90
        assert model.context == (64 if "SigLIP" in model.name else 77)
        assert model.license in {None, "mit", "apache-2.0", "apple-amlr"}
