"""Gender and age as customers told them, and beside that what is inferred of those who didn't.

Whatever is inferred stands in a column that says so: `inferred_...`, or `told_or_inferred_...`.
"""

from __future__ import annotations

from datetime import date

import ibis
import ibis.expr.types as ir

from controltower.profiles.portable import one_if

GENDERS = {
    "female": ("female", "f", "woman", "w", "여", "여성", "여자"),
    "male": ("male", "m", "man", "남", "남성", "남자"),
}
UNSAID = ("u", "unknown", "n/a", "na", "none", "null", "-", "0", "undisclosed", "prefer not to say", "미상", "선택안함")
YOUNGEST, OLDEST = 14, 89  # birth dates that say otherwise are taken for mistakes


def told(customers: ir.Table, today: date) -> ir.Table:
    """customer_id, told_gender (female, male, or another as told), told_age (full years), each null where not told."""
    given = customers.gender.strip().lower().nullif("")
    gender = ibis.cases(
        (given.isin(UNSAID), ibis.null("string")),
        *((given.isin(words), name) for name, words in GENDERS.items()),
        else_=given,
    )
    born = customers.birth_date
    had = (born.month() < today.month) | ((born.month() == today.month) & (born.day() <= today.day))
    years = ibis.literal(today.year, "int64") - born.year() - ibis.ifelse(had, 0, 1)
    plausible = years.between(YOUNGEST, OLDEST)
    return customers.select(
        "customer_id", told_gender=gender, told_age=ibis.ifelse(plausible, years, ibis.null("int64"))
    )


def told_or_inferred(profiles: ir.Table, agreed: ir.Table) -> ir.Table:
    """The derived table `profiles` as it may be used: with `told_or_inferred_` columns, and nothing inferred of others
    than those who agree to profiling now (`agreed`: customer_id)."""
    who = agreed.select(agreed_id=agreed.customer_id)
    rows = profiles.left_join(who, profiles.customer_id == who.agreed_id)
    kept = {
        name: ibis.ifelse(rows.agreed_id.notnull(), rows[name], ibis.null(rows[name].type()))
        for name in profiles.columns
        if name.startswith("inferred_")
    }
    rows = rows.mutate(**kept).drop("agreed_id")
    is_told = rows.told_gender.notnull()
    shares = {
        f"told_or_inferred_{name}_probability": ibis.ifelse(
            is_told, one_if(rows.told_gender == name).cast("float64"), rows[f"inferred_{name}_probability"]
        )
        for name in GENDERS
    }
    return rows.mutate(
        told_or_inferred_gender=rows.told_gender.coalesce(rows.inferred_gender),
        **shares,
        told_or_inferred_age=rows.told_age.coalesce(rows.inferred_age),
    )


def without_inference(profiles: ir.Table, column: str) -> ir.Value:
    """An `inferred_` or `told_or_inferred_` column of `told_or_inferred` as it is where nothing is inferred."""
    nothing = ibis.null(profiles[column].type())
    if column.startswith("inferred_"):
        return nothing
    said = profiles.told_age if column.endswith("_age") else profiles.told_gender
    return ibis.ifelse(said.notnull(), profiles[column], nothing)
