"""looks: how often the test images were scored before these results, and whether what was registered was kept."""

from collections.abc import Sequence, Set

import pandas as pd

from pipeline.records.looks import KINDS, Earlier, Look, different, kinds
from pipeline.report.found import Found
from pipeline.report.section import Section
from pipeline.report.table import Table
from pipeline.report.words import DASH, counted, setting

FEW = 12  # rows of the table that are shown, the last ones; the CSV has all
NONE: frozenset[Look] = frozenset()
IN_VIEW = "these results may have been chosen with those in view."
CLEAN = "Before these results, this checkout had not scored these test images."


def section(found: Found) -> Section | None:
    """None where the record knows nothing of these results, and nothing was registered."""
    if found.earlier is None and found.registration is None:
        return None
    looks = (*found.earlier.looks, *found.earlier.since) if found.earlier else ()
    told = sentence(found.earlier)
    words = {"sentence": told, "registered": registered(found), "departures": departures(found)}
    tables, lines = ((table(looks, found),), (told,)) if looks else ((), ())
    return Section("Looks at the test images", words, tables=tables, lines=lines)


def sentence(earlier: Earlier | None) -> str:
    """These test images had been scored 12 times before these results, by 4 settings, 1 of which is not reported here.

    What was scored since by other settings is told too: whoever chose what is shown may have seen it.
    """
    if earlier is None:
        return "How often these test images had been scored before is not known: the record began after these results."
    count, settings, other = len(earlier.looks), earlier.settings, earlier.other_settings
    later = since(earlier)
    if not count:
        return f"{CLEAN[:-1]}, but has {later}: {IN_VIEW}" if later else CLEAN
    reported = f"{other} of which {'is' if other == 1 else 'are'} not reported here"
    if other in (0, settings):
        reported = f"{'none' if other else 'all'} of which {'is' if other else 'are'} reported here"
    return (
        f"These test images had been scored {times(count)}{kinds(earlier.looks)} before these results, by"
        f" {counted(settings, 'setting')}, {reported}{f', and {later}: {IN_VIEW}' if later else '.'}"
    )


def since(earlier: Earlier) -> str:
    """3 times by 1 other setting since; empty where there were none."""
    count, settings = len(earlier.since), different(earlier.since)
    told = f"{times(count)}{kinds(earlier.since)} by {counted(settings, 'other setting')} since"
    return told if count else ""


def times(count: int) -> str:
    return "once" if count == 1 else f"{count:,} times"


def table(looks: Sequence[Look], found: Found) -> Table:
    """The looks of one model, experiment and commit in a row, before or since, in the order of their first."""
    shown = {look.settings for look in found.earlier.shown} if found.earlier else set()
    since = set(found.earlier.since) if found.earlier else set()
    groups = grouped(looks, since)
    later = [group[0] in since for group in groups]
    frame = pd.DataFrame(
        {
            "study": group[0].study,
            "model": group[0].model,
            "settings": group[0].settings,
            "reported": group[0].settings in shown,
            "experiment": group[0].experiment,
            "commit": group[0].commit,
            "kind": group[0].kind,
            "looks": len(group),
            "first": group[0].when,
            "last": group[-1].when,
            "since": after,
        }
        for group, after in zip(groups, later, strict=True)
    )
    header, cells = rows_of(looks, since)
    reported = ["yes" if group[0].settings in shown else "no" for group in groups]
    whens = ["since" if after else "before" for after in later]
    cells = tuple((*row, *words) for row, *words in zip(cells, reported, whens, strict=True))
    more = f" The last {FEW} of {len(cells)} rows; all are in the CSV." if len(cells) > FEW else ""
    caption = (
        f"{found.tested}: trained networks that were scored on them before these results, and of other settings since."
        f"{more}"
    )
    return Table("looks", caption, frame, (*header, "Settings reported here", "Before or since"), cells[-FEW:])


def rows_of(looks: Sequence[Look], since: Set[Look] = NONE) -> tuple[tuple[str, ...], tuple[tuple[str, ...], ...]]:
    """Header and rows for reading, one for each of those that are `grouped`."""
    header = ("Model", "Study", "Experiment", "Commit", "Scored", "Looks", "First", "Last")
    rows = tuple(
        (
            group[0].model,
            group[0].study,
            group[0].experiment or DASH,
            group[0].commit[:8] or DASH,
            KINDS[group[0].kind],
            str(len(group)),
            group[0].when[:10],
            group[-1].when[:10],
        )
        for group in grouped(looks, since)
    )
    return header, rows


def grouped(looks: Sequence[Look], since: Set[Look] = NONE) -> list[list[Look]]:
    """Those of one model, settings, experiment, commit and kind together, apart from those that are `since`."""
    groups: dict[tuple[str | bool, ...], list[Look]] = {}
    for look in looks:
        key = (look.study, look.model, look.settings, look.experiment, look.commit, look.kind, look in since)
        groups.setdefault(key, []).append(look)
    return list(groups.values())


# registration


def registered(found: Found) -> str:
    """Whether the registration was there first, and was kept; empty where there is none."""
    if found.registration is None:
        return ""
    if found.earlier is None:
        return "registration.json is there; whether it was committed before these results is not known."
    unbound = sum(look.registered != found.registration.digest for look in found.earlier.shown)
    if unbound:
        these = f"{unbound} of these {counted(len(found.earlier.shown), 'trained network')}"
        were = "was" if unbound == 1 else "were"
        return (
            f"registration.json was not committed as it is when {these} {were} first scored on"
            " the test images: it says nothing of them."
        )
    kept = "Not all of it was kept:" if found.registration.departures(found.settings) else "All of it was kept."
    return (
        "Models, replicates, settings, margin and metric (macro-F1) were registered, in a commit, before any of these"
        f" networks was scored on the test images (registration.json). {kept}"
    )


def departures(found: Found) -> list[tuple[str, str, str]]:
    """What was registered and what holds, by key, in words."""
    if found.registration is None:
        return []
    differing = found.registration.departures(found.settings)
    return [(key, setting(then), setting(now)) for key, (then, now) in differing.items()]
