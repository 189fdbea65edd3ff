"""What a preset is, which its file or its parts say, and what decoders can."""

import pytest

from srcli.config.presets import list_presets, parse_preset
from srcli.errors import PresetError
from srcli.models.decoders import DECODERS
from srcli.models.decoders.linf import LINF
from srcli.weights.build import branches_of, build, outline
from tests.engine.test_latent import NATIVE, TINY
from tests.helpers.presets import EDSR

BODY = {"title": "t", "encoder": EDSR}
FLOW = {"name": "linf", "hidden_dim": 8, "hidden": [8]}


def kind(**table):
    return parse_preset({**BODY, **table}, name="p").kind


def test_presets_of_before_have_the_kind_of_their_parts():
    assert kind(decoder={"name": "liif"}) == "regression"
    assert kind(decoder=FLOW) == "flow"
    assert parse_preset(TINY, name="p").kind == "latent-diffusion"
    assert kind(decoder={"name": "canvas"}, generator={"name": "idm"}) == "pixel-diffusion"


def test_what_a_preset_says_of_itself_comes_back_and_is_left_out_where_its_parts_say_it():
    for preset in list_presets():
        assert "kind" not in preset.to_dict()
        assert parse_preset(preset.to_dict(), name=preset.name).kind == preset.kind
    new = parse_preset({**BODY, "kind": "flow", "decoder": {"name": "mine"}}, name="p")
    assert new.to_dict()["kind"] == "flow"


def test_a_new_flow_is_one_class_one_line_and_one_preset(monkeypatch):
    monkeypatch.setitem(DECODERS, "mine", type("Mine", (LINF,), {}))
    table = {**BODY, "decoder": {**FLOW, "name": "mine"}}
    with pytest.raises(PresetError, match="kind flow") as caught:
        build(parse_preset(table, name="p"))
    assert 'kind = "flow"' in caught.value.hint
    assert build(parse_preset({**table, "kind": "flow"}, name="p")).decoder.kind == "flow"


def test_branches_are_those_of_the_decoder_or_of_the_preset():
    assert branches_of(parse_preset(TINY, name="p")) == ("f", "p", "pf", "fp")
    two = {**TINY, "decoder": {**TINY["decoder"], "branches": ["fp", "f"]}}
    assert branches_of(parse_preset(two, name="p")) == ("fp", "f")
    assert branches_of(parse_preset({**BODY, "decoder": FLOW}, name="p")) == ()


def test_a_network_on_a_native_picture_leaves_others_of_the_same_parts_alone():
    plain = outline(parse_preset(TINY, name="plain"))
    assert "decoder.gains" in outline(parse_preset(NATIVE, name="native")).state_dict()
    again = outline(parse_preset(TINY, name="plain"))
    assert set(again.state_dict()) == set(plain.state_dict())
    fidelity = {**NATIVE["encoder"]["fidelity"]}
    table = {**NATIVE, "encoder": {**NATIVE["encoder"], "fidelity": fidelity}}
    table["decoder"] = {key: value for key, value in NATIVE["decoder"].items() if key != "skip"}
    assert "decoder.gains" not in outline(parse_preset(table, name="same parts")).state_dict()
