"""One schema with one set of ranges, for form, estimate, API, command line and trainer."""

import msgspec
import pytest

from brightrun.formats.hyperparameter_rules import adapt, learning_rate_rule
from brightrun.formats.hyperparameters import (
    HYPERPARAMETERS,
    PRESETS,
    SPECS,
    HyperparameterError,
    Hyperparameters,
    advice,
    build,
    check,
    minimum_steps_rule,
    parse_set,
    preset_named,
    total_steps,
)


def test_schema_and_struct_name_the_same_fields_with_the_same_defaults() -> None:
    fields = {field.name: field.default for field in msgspec.structs.fields(Hyperparameters)}
    assert fields == {spec.name: spec.default for spec in HYPERPARAMETERS}


def test_every_hyperparameter_has_help_and_a_range() -> None:
    for spec in HYPERPARAMETERS:
        assert spec.help.endswith(".")
        assert spec.range_text


def test_balanced_is_the_default_and_custom_starts_from_it() -> None:
    assert build("balanced") == Hyperparameters() == build("custom")


@pytest.mark.parametrize(
    ("name", "rank", "alpha", "rate"),
    [("conservative", 8, 16, 1e-4), ("balanced", 16, 32, 2e-4), ("aggressive", 32, 64, 3e-4)],
)
def test_presets_carry_the_documented_values(name: str, rank: int, alpha: float, rate: float) -> None:
    values = build(name)
    assert (values.rank, values.alpha, values.learning_rate) == (rank, alpha, rate)


def test_every_preset_lies_inside_the_ranges() -> None:
    for name in PRESETS:
        check(build(name))


@pytest.mark.parametrize(("alias", "name"), [("fast", "conservative"), ("quality", "aggressive")])
def test_the_earlier_names_are_accepted(alias: str, name: str) -> None:
    assert preset_named(alias).id == name


def test_an_unknown_preset_is_refused_with_the_known_ones() -> None:
    with pytest.raises(HyperparameterError, match="balanced"):
        build("turbo")


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("learning_rate", 0), ("learning_rate", 1e-6), ("learning_rate", 1e-2), ("batch_size", 64), ("epochs", 20),
        ("rank", 4), ("rank", 128), ("dropout", 0.5), ("dropout", 0), ("seed", 2**32 - 1), ("target_modules", "q_proj"),
    ],
)  # fmt: skip
def test_the_ends_of_a_range_are_allowed(field: str, value: object) -> None:
    build("custom", {field: value})


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("learning_rate", 9e-7), ("learning_rate", 0.011), ("learning_rate", -1e-4), ("learning_rate", float("nan")),
        ("learning_rate", "fast"), ("batch_size", 0), ("batch_size", 65), ("batch_size", 2.5), ("batch_size", True),
        ("epochs", 21), ("rank", 3), ("rank", 129), ("dropout", 0.51), ("schedule", "step"), ("seed", -1),
        ("target_modules", ""), ("target_modules", "q_proj,,v_proj"), ("target_modules", 7), ("precision", None),
        ("activation_checkpointing", "maybe"), ("no_such_thing", 1),
    ],
)  # fmt: skip
def test_what_lies_outside_is_refused_by_name_with_the_value_and_the_range(field: str, value: object) -> None:
    with pytest.raises(HyperparameterError) as refused:
        build("custom", {field: value})
    assert list(refused.value.problems) == [field]
    if field in SPECS:
        assert repr(value) in str(refused.value)
        assert SPECS[field].range_text in str(refused.value)


def test_all_problems_are_told_at_once() -> None:
    with pytest.raises(HyperparameterError) as refused:
        build("custom", {"rank": 3, "epochs": 0})
    assert set(refused.value.problems) == {"rank", "epochs"}


def test_alpha_follows_rank_unless_it_is_set() -> None:
    assert build("balanced", {"rank": 64}).alpha == 128
    assert build("balanced", {"rank": 64, "alpha": 64}).alpha == 64


def test_set_items_are_typed() -> None:
    items = [
        "learning_rate=1e-4", "rank=8", "activation_checkpointing=yes", "target_modules=v_proj,q_proj",
        "schedule=linear",
    ]  # fmt: skip
    assert parse_set(items) == {
        "learning_rate": 1e-4, "rank": 8, "activation_checkpointing": True, "target_modules": ["q_proj", "v_proj"],
        "schedule": "linear",
    }  # fmt: skip


def test_set_items_that_make_no_sense_are_all_named() -> None:
    with pytest.raises(HyperparameterError) as refused:
        parse_set(["rank", "epochs=none", "speed=9"])
    assert set(refused.value.problems) == {"rank", "epochs", "speed"}


def test_unusual_values_are_warned_of_and_a_zero_rate_is_called_a_control() -> None:
    assert advice(build("balanced")) == {}
    assert "control" in advice(build("custom", {"learning_rate": 0}))["learning_rate"]
    assert "outside the usual" in advice(build("custom", {"learning_rate": 5e-3}))["learning_rate"]


def test_a_small_dataset_lowers_the_batch_then_raises_the_epochs_and_says_so() -> None:
    values, fired = minimum_steps_rule(build("balanced"), train_records=10)
    assert (values.batch_size, values.epochs) == (1, 10)
    assert total_steps(values, 10) == 100
    assert len(fired) == 2
    assert "batch_size" in fired[0]
    assert "epochs" in fired[1]


def test_what_the_user_set_is_left_alone() -> None:
    chosen = build("balanced", {"batch_size": 8, "epochs": 1})
    assert minimum_steps_rule(chosen, train_records=10, explicit=["batch_size", "epochs"]) == (chosen, [])


def test_a_large_dataset_needs_no_rule() -> None:
    assert minimum_steps_rule(build("balanced"), train_records=1000) == (build("balanced"), [])


def test_total_steps_counts_partial_batches_and_obeys_the_limit() -> None:
    values = build("custom", {"batch_size": 4, "epochs": 2})
    assert total_steps(values, 10) == 6
    assert total_steps(build("custom", {"batch_size": 4, "epochs": 2, "max_steps": 5}), 10) == 5


def test_the_learning_rate_follows_the_square_root_of_a_batch_that_the_user_chose() -> None:
    values = build("balanced", {"batch_size": 32})
    scaled, fired = learning_rate_rule(values, preset="balanced", explicit=["batch_size"])
    assert scaled.learning_rate == pytest.approx(4e-4)
    assert len(fired) == 1
    assert "learning_rate scaled from 0.0002 to 0.0004" in fired[0]
    lower, _fired = learning_rate_rule(
        build("aggressive", {"batch_size": 4}), preset="quality", explicit=["batch_size"]
    )
    assert lower.learning_rate == pytest.approx(1.5e-4), "against the batch of its own preset"


@pytest.mark.parametrize(
    "overrides",
    [{"batch_size": 32, "learning_rate": 1e-4}, {"batch_size": 8}, {"batch_size": 32, "learning_rate": 0}, {}],
)
def test_the_learning_rate_is_left_alone_where_it_was_set_or_the_batch_is_the_presets(
    overrides: dict[str, float],
) -> None:
    values = build("balanced", overrides)
    assert learning_rate_rule(values, preset="balanced", explicit=overrides) == (values, [])


def test_a_batch_that_a_rule_lowers_scales_no_learning_rate() -> None:
    values, fired = adapt(build("balanced"), preset="balanced", train_records=10)
    assert (values.batch_size, values.learning_rate) == (1, 2e-4)
    assert all("learning_rate" not in rule for rule in fired)


def test_both_rules_can_fire_and_the_batch_that_was_set_stays() -> None:
    values, fired = adapt(
        build("balanced", {"batch_size": 2}), preset="balanced", train_records=10, explicit=["batch_size"]
    )
    assert (values.batch_size, values.learning_rate, values.epochs) == (2, 1e-4, 10)
    assert [rule.split()[0] for rule in fired] == ["learning_rate", "epochs"]
