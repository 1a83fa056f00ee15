import json
import re

from bareclip.cli.models import KNOWN, RESEARCH, USES
from tests.runtime.test_cli import run


def test_models_are_listed_with_what_gets_them() -> None:
    shown = run("models").stdout
    told = json.loads(run("models", "--json").stdout)
    assert "openclip_results.csv" in shown
    assert told["imagenet_source"] in shown
    assert told["languages_source"] in shown
    assert len(told["models"]) == len(KNOWN)
    for model in told["models"]:
        assert model["name"] in shown
        assert model["command"] == (
            f"bareclip export {model['name']} -o {model['name'].rpartition('/')[2]}"
        )
    for use in told["uses"]:
        assert use["model"] in shown
        assert use["reason"] in shown


def test_what_is_for_research_only_says_so() -> None:
    shown = run("models").stdout.splitlines()
    for model in KNOWN:
        [line] = [line for line in shown if line.split()[:1] == [model.name]]
        warned = any(words in line for words in RESEARCH.values())
        assert warned == (model.license in RESEARCH)
    # Nobody is sent to one of them unasked.
    licenses = {model.name: model.license for model in KNOWN}
    assert all(licenses[model] not in {None, *RESEARCH} for _, model, _ in USES)


def test_the_facts_are_plausible() -> None:
    assert len({model.name for model in KNOWN}) == len(KNOWN)
    for model in KNOWN:
        assert model.imagenet is None or 40 < model.imagenet < 90
        assert model.languages is None or 10 < model.languages < 70
        # Else nothing would speak for it but what it is for, which its family says.
        assert model.imagenet or model.languages or re.search("texts for|Chinese|Bio", model.family)
        own = re.search("M-CLIP|multilingual|chinese|Biomed", model.name)
        contexts = {"-SigLIP": 64, "CLIPA": 32, "PE-Core": 32}
        wanted = [tokens for name, tokens in contexts.items() if name in model.name]
        assert own or [model.context] == (wanted or [77])
        assert model.license in {None, "mit", "apache-2.0", *RESEARCH}
