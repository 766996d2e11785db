"""When trials and tuning jobs end, and what the model proposes, without a server."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from statistics import fmean
from typing import Any

import pytest

from pilvi.core.errors import Invalid
from pilvi.services.sagemaker import tuning_model
from pilvi.services.sagemaker.tuning_choice import Known, Prior, Search, choose, definition_of, drawn
from pilvi.services.sagemaker.tuning_control import joined
from pilvi.services.sagemaker.tuning_model import standardized
from pilvi.services.sagemaker.tuning_range import Range
from pilvi.services.sagemaker.tuning_rule import (
    CONVERGED_AFTER,
    Hyperband,
    converged_at,
    is_satisfied,
    is_worse_than_median,
    not_improving,
    why_hopeless,
)
from pilvi.services.sagemaker.tuning_trial import Objective, Trial, best_of, counters, from_record, to_record

START = datetime(2026, 1, 1, tzinfo=UTC)
LOW, HIGH = Objective("loss", is_maximized=False), Objective("auc", is_maximized=True)
X, Y = Range("x", "Continuous", 0, 1), Range("y", "Continuous", 0, 1)


def trial(number: int, points: Sequence[float] = (), status: str = "Completed", values: Any = None, **more: Any) -> Trial:
    ended = None if status in ("InProgress", "Stopping") else START + timedelta(seconds=number)
    return Trial(number, 0, values or {}, f"t-{number}", "arn", START, status, None, ended, points=list(points), **more)


# -- early stopping --------------------------------------------------------------------------------------------------------


def test_median_rule_compares_with_running_averages() -> None:
    others = [trial(1, [4, 2, 1]), trial(2, [6, 4, 2]), trial(3, [8, 6, 4])]
    # After two epochs the averages are 3, 5 and 7.
    assert is_worse_than_median(trial(4, [9, 5.5], "InProgress"), others, LOW)
    assert not is_worse_than_median(trial(4, [9, 4.5], "InProgress"), others, LOW)
    assert is_worse_than_median(trial(4, [0, 4.5], "InProgress"), others, HIGH)


def test_median_rule_waits_for_enough_to_compare_with() -> None:
    running = trial(4, [99.0], "InProgress")
    assert not is_worse_than_median(running, [trial(1, [1]), trial(2, [1])], LOW)
    assert not is_worse_than_median(running, [trial(number, [1], "Stopped") for number in (1, 2, 3)], LOW)
    assert not is_worse_than_median(trial(4, (), "InProgress"), [trial(number, [1]) for number in (1, 2, 3)], LOW)


def test_hyperband_lets_the_better_third_of_a_rung_go_on() -> None:
    band = Hyperband(1, 27)
    assert [band.rungs(number) for number in (1, 27, 28, 40)] == [(1, 3, 9), (1, 3, 9), (3, 9), ()]
    others = [trial(number, [float(number)], "Stopped") for number in range(1, 9)]
    assert not band.is_over(trial(9, [2.5], "InProgress"), others, LOW)
    assert band.is_over(trial(9, [3.5], "InProgress"), others, LOW)
    assert not band.is_over(trial(9, [0.5, 9.0], "InProgress"), others, LOW), "between rungs nothing is decided anew"
    assert not band.is_over(trial(9, (), "InProgress"), others, LOW)


def test_hyperband_ends_what_goes_beyond_the_most_epochs() -> None:
    band = Hyperband(3, 3)
    assert not band.is_over(trial(1, [1, 1, 1], "InProgress"), [], LOW)
    assert band.is_over(trial(1, [1, 1, 1, 1], "InProgress"), [], LOW)
    assert band.rungs(1) == ()


def test_hyperband_gives_each_bracket_its_share() -> None:
    brackets = [Hyperband(1, 27).bracket(number) for number in range(1, 41)]
    assert [brackets.count(bracket) for bracket in range(4)] == [27, 9, 3, 1]


def test_histories_join_though_only_their_end_is_kept() -> None:
    whole = [(START + timedelta(seconds=number // 2), 1.0) for number in range(2000)]
    found: list[tuple[datetime, float]] = []
    for end in range(0, 2001, 100):
        found = joined(found, whole[:end][-500:])
    assert len(found) == 2000
    assert joined(found[:3], []) == found[:3]
    assert joined(found[:3], found[1000:1002]) == [*found[:3], *found[1000:1002]]


# -- completion ------------------------------------------------------------------------------------------------------------


def test_not_improving_counts_since_the_last_improvement_of_one_percent() -> None:
    assert not_improving([trial(1, [10]), trial(2, [9.95]), trial(3, [9.94])], [LOW]) == 2
    assert not_improving([trial(1, [10]), trial(2, [9.95]), trial(3, [5])], [LOW]) == 0
    assert not_improving([trial(1, [10]), trial(2, [11]), trial(3, [], "Failed")], [HIGH]) == 0
    assert not_improving([], [LOW]) == 0


def test_completion_criteria() -> None:
    trials = [trial(1, [0.5]), trial(2, [0.6]), trial(3, [0.7]), trial(4, [0.8])]
    best = best_of(trials, [LOW])
    assert is_satisfied({"TargetObjectiveMetricValue": 0.5}, trials, [LOW], best)
    assert not is_satisfied({"TargetObjectiveMetricValue": 0.4}, trials, [LOW], best)
    assert is_satisfied({"BestObjectiveNotImproving": {"MaxNumberOfTrainingJobsNotImproving": 3}}, trials, [LOW], best)
    assert not is_satisfied({"BestObjectiveNotImproving": {"MaxNumberOfTrainingJobsNotImproving": 4}}, trials, [LOW], best)
    flat = [trial(number, [1.0]) for number in range(1, CONVERGED_AFTER + 2)]
    wanted = {"ConvergenceDetected": {"CompleteOnConvergence": "Enabled"}}
    assert is_satisfied(wanted, flat, [LOW], flat[0])
    assert not is_satisfied(wanted, flat[:-1], [LOW], flat[0])
    assert not is_satisfied({"ConvergenceDetected": {"CompleteOnConvergence": "Disabled"}}, flat, [LOW], flat[0])
    assert converged_at(flat, [LOW]) == flat[-1].ended
    assert converged_at(flat[:-1], [LOW]) is None


def test_hopeless_after_five_failures() -> None:
    failed = [trial(number, status="Failed", reason="AlgorithmError: x") for number in range(1, 6)]
    assert why_hopeless(failed[:4], 100) is None
    assert (why_hopeless(failed, 100) or "").startswith("No training job succeeded after 5 attempts.")
    assert (why_hopeless(failed[:2], 2) or "").startswith("No training job succeeded after 2 attempts.")
    silent = [trial(number) for number in range(1, 6)]
    assert (why_hopeless(silent, 100) or "").startswith("No objective metrics found after running 5 training jobs.")
    assert why_hopeless([*failed, trial(6, [1.0])], 100) is None
    lost = [trial(number, status="Failed", reason="InternalServerError: the server stopped") for number in range(1, 9)]
    assert why_hopeless(lost, 100) is None


# -- views -----------------------------------------------------------------------------------------------------------------


def test_counters_and_best() -> None:
    trials = [
        trial(1, [3.0]),
        trial(2, [1.0], "Stopped"),
        trial(3, [0.0], "Failed", reason="AlgorithmError: no"),
        trial(4, status="Failed", reason="InternalServerError: gone"),
        trial(5, [0.5], "InProgress"),
        trial(6),
    ]
    assert counters(trials) == {
        "TrainingJobStatusCounters": {
            "Completed": 2,
            "InProgress": 1,
            "RetryableError": 1,
            "NonRetryableError": 1,
            "Stopped": 1,
        },
        "ObjectiveStatusCounters": {"Succeeded": 2, "Pending": 1, "Failed": 3},
    }
    assert best_of(trials, [LOW]) == trials[1]
    assert best_of(trials, [HIGH]) == trials[0]
    assert best_of([], [LOW]) is None
    assert from_record(to_record(trials[0])) == trials[0]


# -- choices ---------------------------------------------------------------------------------------------------------------


def searched(
    loss: Callable[[dict[str, float]], float], strategy: str, seed: int, count: int, prior: Prior | None = None
) -> list[dict[str, float]]:
    """The settings that a strategy tries on a function, one after the other."""
    search, trials, found = Search((X, Y), LOW, {}), list[Trial](), []
    for number in range(1, count + 1):
        values = choose(strategy, [search], number, seed, trials, prior or Prior())
        setting = {name: float(value) for name, value in values.items()}
        trials.append(trial(number, [loss(setting)], values=values))
        found.append(setting)
    return found


def bowl(setting: dict[str, float]) -> float:
    return (setting["x"] - 0.3) ** 2 + (setting["y"] - 0.7) ** 2


def trials_until(found: list[dict[str, float]], near: float) -> int:
    return next((number for number, setting in enumerate(found, 1) if bowl(setting) < near), len(found) + 1)


def test_random_repeats_with_its_seed_and_heeds_no_result() -> None:
    assert searched(bowl, "Random", 5, 6) == searched(lambda _: 0.0, "Random", 5, 6)
    assert searched(bowl, "Random", 5, 6) != searched(bowl, "Random", 6, 6)


def test_bayesian_needs_fewer_trials_than_random() -> None:
    needed = {
        strategy: [trials_until(searched(bowl, strategy, seed, 60), 0.002) for seed in range(10)]
        for strategy in ("Bayesian", "Random")
    }
    assert fmean(needed["Bayesian"]) < 0.6 * fmean(needed["Random"])


def test_bayesian_repeats_from_the_same_records() -> None:
    assert searched(bowl, "Bayesian", 3, 12) == searched(bowl, "Bayesian", 3, 12)


def test_bayesian_searches_words_and_single_values() -> None:
    ranges = (
        Range("k", "Categorical", values=("a", "b")),
        Range("n", "Integer", 4, 4),
        Range("c", "Categorical", values=("only",)),
        X,
    )
    search, trials = Search(ranges, HIGH, {}), list[Trial]()
    for number in range(1, 16):
        values = choose("Bayesian", [search], number, 1, trials, Prior())
        assert (values["n"], values["c"]) == ("4", "only")
        trials.append(trial(number, [float(values["k"] == "b")], values=values))
    assert sum(found.values["k"] == "b" for found in trials[-8:]) >= 6


def test_identical_warm_start_begins_near_the_optimum() -> None:
    known = tuple(
        Known({name: repr(value) for name, value in setting.items()}, bowl(setting))
        for setting in searched(bowl, "Bayesian", 0, 30)
    )
    cold = [bowl(setting) for seed in range(5) for setting in searched(bowl, "Bayesian", seed + 1, 3)]
    warm = [bowl(setting) for seed in range(5) for setting in searched(bowl, "Bayesian", seed + 1, 3, Prior(known))]
    assert fmean(warm) < 0.3 * fmean(cold)


def test_transfer_learning_puts_results_on_one_scale() -> None:
    settings = searched(bowl, "Bayesian", 0, 30)
    scaled = standardized([1000 + 50 * bowl(setting) for setting in settings])
    known = tuple(
        Known({name: repr(value) for name, value in setting.items()}, result)
        for setting, result in zip(settings, scaled, strict=True)
    )
    cold = [bowl(setting) for seed in range(5) for setting in searched(bowl, "Bayesian", seed + 1, 4)]
    warm = [
        bowl(setting) for seed in range(5) for setting in searched(bowl, "Bayesian", seed + 1, 4, Prior(known, is_transfer=True))
    ]
    assert fmean(warm) < 0.5 * fmean(cold)
    assert standardized([2.0, 2.0]) == [0.0, 0.0]
    assert standardized([]) == []


def test_known_settings_outside_of_the_ranges_are_left_out() -> None:
    prior = Prior((Known({"x": "7", "y": "0.5"}, 1.0), Known({"x": "0.5"}, 1.0)))
    assert searched(bowl, "Bayesian", 3, 2, prior) == searched(bowl, "Bayesian", 3, 2)


def test_definitions_take_turns_and_grids_follow_each_other() -> None:
    two = Search((Range("k", "Categorical", values=("a", "b")),), LOW, {})
    one = Search((Range("k", "Categorical", values=("c",)),), LOW, {})
    assert [definition_of("Random", [two, one], number) for number in (1, 2, 3)] == [0, 1, 0]
    assert [choose("Grid", [two, one], number, 0, [], Prior())["k"] for number in (1, 2, 3)] == ["a", "b", "c"]
    with pytest.raises(IndexError):
        definition_of("Grid", [two, one], 4)


def test_draws_fill_the_range() -> None:
    values = [float(drawn([X], 1, number)["x"]) for number in range(1, 201)]
    assert min(values) < 0.05
    assert max(values) > 0.95


def test_models_name_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tuning_model, "find_spec", lambda _: None)
    with pytest.raises(Invalid, match=r"pip install 'pilvi\[tuning\]'"):
        tuning_model.check_installed()
