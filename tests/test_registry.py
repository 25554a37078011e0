"""The closed registries: what a YAML may name, and what a wrong name gets."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import pytest
from pydantic import ValidationError
from torch import nn

import legos
from legos.errors import ConfigError
from legos.item.cnn import CNN, CNNConfig
from legos.recommender import Recommender, build_brick
from legos.registry import BrickConfig, Registry, item_encoders, predictors, user_encoders

FAMILIES = pytest.mark.parametrize(
    ("folder", "registry"),
    [("item", item_encoders), ("user", user_encoders), ("predictor", predictors)],
    ids=["item", "user", "predictor"],
)


def message(error: pytest.ExceptionInfo[ValidationError]) -> tuple[tuple[int | str, ...], str]:
    """Where the only complaint is, and what it says."""
    (detail,) = error.value.errors()
    return detail["loc"], detail["msg"]


@FAMILIES
def test_every_module_of_a_family_is_the_brick_of_its_name(folder: str, registry: Registry) -> None:
    assert Recommender  # its import fills the registries
    modules = {path.stem for path in (Path(legos.__file__).parent / folder).glob("*.py")}
    assert registry.names() == sorted(modules - {"__init__"})
    for name in registry.names():
        assert registry.brick(name).__module__ == f"legos.{folder}.{name}"
        assert issubclass(registry.brick(name), nn.Module)


@FAMILIES
def test_every_brick_says_what_it_is(folder: str, registry: Registry) -> None:
    for name in registry.names():
        description = registry.describe(name)
        assert description[:1].isupper(), name
        assert len(description.split()) >= 4, name
        assert "\n" not in description, name


@FAMILIES
def test_every_setting_has_a_description(folder: str, registry: Registry) -> None:
    for name in registry.names():
        for key, field in registry.config(name).model_fields.items():
            assert key == "name" or field.description, f"{name}.{key}"


def test_a_mapping_becomes_the_settings_of_the_brick_it_names() -> None:
    config = item_encoders.validate({"name": "cnn", "kernel_size": 5})
    assert config == CNNConfig(kernel_size=5)
    assert item_encoders.validate(config) is config
    assert item_encoders.brick("cnn") is CNN


def test_an_unknown_name_is_told_the_nearest() -> None:
    with pytest.raises(ValidationError) as error:
        item_encoders.validate({"name": "atention"})
    location, text = message(error)
    assert location == ("name",)
    assert text.startswith("unknown item encoder 'atention'; did you mean 'attention'? choose from")


def test_a_missing_name_is_told_the_choices() -> None:
    with pytest.raises(ValidationError) as error:
        user_encoders.validate({"attention_size": 3})
    assert message(error)[0] == ("name",)
    assert "missing; choose from: additive_attention, " in message(error)[1]


@pytest.mark.parametrize("value", ["cnn", None, ["cnn"], 3])
def test_what_is_no_mapping_is_refused(value: object) -> None:
    with pytest.raises(ValidationError) as error:
        item_encoders.validate(value)
    assert f"expected a mapping with a name, found {value!r}" in message(error)[1]


@pytest.mark.parametrize(
    ("settings", "location"),
    [
        ({"name": "cnn", "kernelsize": 3}, ("kernelsize",)),
        ({"name": "cnn", "dropout": 1.0}, ("dropout",)),
        ({"name": "cnn", "kernel_size": "wide"}, ("kernel_size",)),
        ({"name": "cnn", "form": "both"}, ("form",)),
        ({"name": "id_and_content"}, ("content",)),
        ({"name": "id_and_content", "content": {"name": "cnn", "widht": 3}}, ("content", "widht")),
    ],
    ids=lambda value: str(value) if isinstance(value, dict) else "",
)
def test_a_wrong_setting_is_refused_at_its_place(
    settings: dict[str, object], location: tuple[str, ...]
) -> None:
    with pytest.raises(ValidationError) as error:
        item_encoders.validate(settings)
    assert message(error)[0] == location


def test_an_unknown_brick_inside_a_brick_is_told_the_nearest() -> None:
    with pytest.raises(ValidationError) as error:
        item_encoders.validate({"name": "id_and_content", "content": {"name": "pooing"}})
    location, text = message(error)
    assert location[0] == "content"
    assert "did you mean 'pooling'?" in text


def test_settings_survive_a_round_trip_through_plain_values() -> None:
    config = item_encoders.validate(
        {"name": "id_and_content", "content": {"name": "cnn", "kernel_size": 5}}
    )
    assert item_encoders.validate(config.model_dump(mode="json")) == config


class TakesSettings(nn.Module):
    def __init__(self, settings: BrickConfig, *, hidden_size: int) -> None:
        super().__init__()
        self.size = hidden_size


class EachSettingIsAnArgument(nn.Module):
    def __init__(self, *, hidden_size: int, width: int) -> None:
        super().__init__()


class NotByKeyword(nn.Module):
    def __init__(self, settings: BrickConfig, hidden_size: int) -> None:
        super().__init__()


class TakesAnything(nn.Module):
    def __init__(self, settings: BrickConfig, **others: object) -> None:
        super().__init__()


class AsksForASetting(nn.Module):
    def __init__(self, settings: BrickConfig, *, hidden_size: int, width: int = 3) -> None:
        super().__init__()


class AsksForTheUnknown(nn.Module):
    def __init__(self, settings: BrickConfig, *, hiden_size: int) -> None:
        super().__init__()


class WideConfig(BrickConfig):
    name: Literal["wide"] = "wide"
    width: int = 3


@pytest.mark.parametrize("brick", [EachSettingIsAnArgument, NotByKeyword, TakesAnything, nn.Module])
def test_a_constructor_of_another_form_is_refused_at_once(brick: type) -> None:
    registry = Registry("test brick")
    with pytest.raises(
        ConfigError, match=r"write __init__\(self, settings: WideConfig, \*, "
    ) as error:
        registry.register(WideConfig)(brick)
    assert str(error.value).startswith(f"{brick.__module__}.{brick.__name__}(")
    assert registry.names() == []


@pytest.mark.parametrize(
    ("brick", "message"),
    [
        (AsksForASetting, "AsksForASetting takes width, a setting: read settings.width"),
        (AsksForTheUnknown, "AsksForTheUnknown takes hiden_size, unknown; did you mean 'hidden_si"),
    ],
)
def test_an_argument_that_no_run_gives_is_refused(brick: type, message: str) -> None:
    registry = Registry("test brick")
    registry.register(WideConfig)(brick)
    with pytest.raises(ConfigError, match=message):
        build_brick(registry, WideConfig(), {"hidden_size": 4})


def test_a_name_is_registered_once() -> None:
    registry = Registry("test brick")

    class OneConfig(BrickConfig):
        name: Literal["one"] = "one"

    class NamelessConfig(BrickConfig):
        pass

    registry.register(OneConfig)(TakesSettings)
    with pytest.raises(TypeError, match=r"OneConfig\.name must default to a new test brick name"):
        registry.register(OneConfig)
    with pytest.raises(TypeError, match="NamelessConfig"):
        registry.register(NamelessConfig)
    assert registry.names() == ["one"]
