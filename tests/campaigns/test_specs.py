"""Specs: the good ones load, each bad one names its file, place and fault, and keeps no other from loading."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from controltower.campaigns.approval import threshold
from controltower.campaigns.form import apply
from controltower.campaigns.specs import BrokenSpec, Spec, find_spec, load_specs
from controltower.errors import BadSpec
from controltower.settings import INCLUDE
from support.shop_tables import SHOP

GOOD = {
    "name": "spring", "title": "Spring", "description": "All of them.", "owner": "marketing", "template": "win_back",
    "channels": ["push", "email"],
    "audience": {"rules": [{"column": "orders_total", "at_least": 1}]},
    "variants": [
        {"name": n, "subject": {"en": n}, "push_title": {"en": n}, "push_body": {"en": n}} for n in ("a", "b")
    ],
}  # fmt: skip


def write(folder: Path, file: str = "spring", /, **changes: object) -> Path:
    path = folder / f"{file}.yaml"
    path.write_text(yaml.safe_dump(GOOD | changes))
    return path


def test_the_campaigns_that_we_ship_are_valid() -> None:
    specs = load_specs(INCLUDE / "campaigns")
    assert {"picked_for_you", "win_back"} <= {s.name for s in specs}
    assert all(isinstance(s, Spec) and s.holdout > 0 for s in specs)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"holdout": 1.5}, "holdout"),
        ({"chanels": ["email"]}, "chanels"),
        ({"channels": ["pigeon"]}, "channels.0"),
        ({"channels": ["email", "email"]}, "named twice"),
        ({"name": "summer"}, "Call it 'spring'"),
        ({"schedule": "sometimes"}, "neither `after_scores` nor a cron line"),
        ({"audience": {"rules": [{"column": "x"}]}}, "at_least, at_most or is_in"),
        ({"audience": {"rules": []}}, "audience needs a rule, or a goal"),
        ({"variants": [GOOD["variants"][0]] * 2}, "same name"),  # type: ignore[index]
        ({"variants": [{"name": "a", "subject": {"en": "x"}}]}, "push_title"),
        ({"channels": ["in_app"]}, "in_app_title and in_app_body"),
        ({"window": {"start": "21:00", "end": "08:00"}}, "before its end"),
        ({"window": {"hours": 73}}, "window.hours"),
        ({"grace_hours": {"email": 0}}, "grace_hours.email"),
        ({"grace_hours": {"pigeon": 1}}, "grace_hours.pigeon"),
        ({"delivery": "exactly_once"}, "delivery"),
        ({"delivery": "at_least_once"}, "needs grace_hours for each channel"),
        ({"delivery": "at_least_once", "grace_hours": {"email": 2}}, "needs grace_hours for each channel"),
        (
            {"delivery": "at_least_once", "grace_hours": {"email": 2, "push": 24}},
            "below the window's expires_hours (24)",
        ),
    ],
)
def test_a_bad_spec_names_the_place_and_the_fault(tmp_path: Path, changes: dict[str, object], says: str) -> None:
    write(tmp_path, **changes)
    write(tmp_path, "other", name="other")
    broken, good = sorted(load_specs(tmp_path), key=lambda s: s.name != "spring")
    assert isinstance(broken, BrokenSpec)
    assert isinstance(good, Spec)
    assert says in broken.error
    assert "spring.yaml" in broken.error
    with pytest.raises(BadSpec, match=r"spring\.yaml"):
        find_spec(tmp_path, "spring")


@pytest.mark.parametrize("text", ["a: [", "", "- 1", "\x00", "name: !!python/object:os.system x"])
def test_what_is_no_spec_at_all_is_broken_not_a_crash(tmp_path: Path, text: str) -> None:
    (tmp_path / "odd-name.yaml").write_text(text)
    (only,) = load_specs(tmp_path)
    assert isinstance(only, BrokenSpec)
    assert only.name == "odd_name"


def test_unknown_campaign_and_missing_folder_say_what_there_is(tmp_path: Path) -> None:
    write(tmp_path)
    with pytest.raises(BadSpec, match="Known: spring"):
        find_spec(tmp_path, "summer")
    with pytest.raises(BadSpec, match="CONTROLTOWER_CAMPAIGNS"):
        load_specs(tmp_path / "none")


def test_the_form_changes_one_occasion_and_its_hash(tmp_path: Path) -> None:
    write(tmp_path)
    spec = find_spec(tmp_path, "spring")
    assert apply(spec, None, SHOP).hash == apply(spec, {"holdout": None, "variants": []}, SHOP).hash == spec.hash
    form = {"holdout": 0.3, "variants": ["b"], "channels": ["email"], "window_start": "10:00", "at_most": 5}
    changed = apply(spec, form, SHOP)
    assert (changed.holdout, [v.name for v in changed.variants], changed.channels) == (0.3, ["b"], ["email"])
    assert (changed.window.start.hour, changed.audience.at_most) == (10, 5)
    assert changed.hash != spec.hash


@pytest.mark.parametrize(
    "form",
    [
        {"holdout": 2},
        {"variants": ["z"]},
        {"channels": ["sms"]},
        {"window_start": "23:00"},
        {"at_most": 0},
        {"x": 1},
        {"at_most": 10**30},
    ],
)
def test_a_form_that_does_not_fit_is_refused(tmp_path: Path, form: dict[str, object]) -> None:
    write(tmp_path)
    with pytest.raises(BadSpec):
        apply(find_spec(tmp_path, "spring"), form, SHOP)


@pytest.mark.parametrize(
    ("shop_says", "spec_says", "form_says", "holds"),
    [
        (None, None, None, None),
        (100, None, None, 100),
        (None, 50, None, 50),
        (100, 50, None, 50),
        (50, 100, None, 50),  # a spec can't do away with the shop's either
        (100, None, 100, 100),
        (100, None, 0, 0),
        (None, None, 7, 7),
        (100, None, 101, BadSpec),
        (None, 50, 51, BadSpec),
        (100, 50, 100, BadSpec),
    ],
)
def test_the_threshold_of_approval_is_only_ever_lowered(
    tmp_path: Path, shop_says: int | None, spec_says: int | None, form_says: object, holds: object
) -> None:
    write(tmp_path, approve_above=spec_says)
    spec = find_spec(tmp_path, "spring")
    shop = SHOP.model_copy(update={"approve_above": shop_says})
    if holds is BadSpec:
        with pytest.raises(BadSpec):
            apply(spec, {"approve_above": form_says}, shop)
        return
    changed = apply(spec, {"approve_above": form_says}, shop)
    assert threshold(shop, changed) == holds
    assert (changed.hash == spec.hash) == (threshold(shop, spec) == holds)
