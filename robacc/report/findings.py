"""Say what was found, in sentences that a person would say, from the claims of the ledger.

A sentence follows the verdict: an effect that is undecided is not told as one.
"""

import json
from collections.abc import Iterable
from itertools import groupby
from pathlib import Path

from robacc.files import must_exist
from robacc.paper.ledger import ACCURACIES, EQUAL, NOT_TESTED, OPPOSITE, REPRODUCED, WORDS

# What a claim says of its effects: the verb if it is as claimed, the verb if it is the other way, and of what.
STANDARD, ROBUST = ACCURACIES["std_acc"], ACCURACIES["rob_acc"]
CHANGES = {
    "C1": ("gains", "costs", STANDARD),
    "C2": ("costs", "gains", STANDARD),
    "C3": ("costs", "gains", STANDARD),
    STANDARD: ("gains", "costs", STANDARD),
    ROBUST: ("costs", "gains", ROBUST),
}


def interval(effect: dict, sign: int = 1) -> str:
    """Return the interval of an effect in points, turned by `sign`."""
    if effect["low"] is None:
        return "[one seed, no interval]"
    low, high = sorted(100 * sign * effect[end] for end in ("low", "high"))
    return f"[{low:.2f}, {high:.2f}]"


def change(effect: dict, kind: str) -> str:
    """Return what an effect does to an accuracy: "costs 0.97 points of standard accuracy [0.70, 1.20]"."""
    claimed, other, of = CHANGES[kind]
    if effect["verdict"] in (REPRODUCED, OPPOSITE):
        verb, sign = (claimed, 1) if effect["verdict"] == REPRODUCED else (other, -1)
        return f"{verb} {100 * sign * effect['value']:.2f} points of {of} {interval(effect, sign)}"
    signed = interval(effect, 1 if claimed == "gains" else -1)
    if effect["verdict"] == EQUAL:
        return f"changes {of} by less than {100 * effect['margin']:g} points {signed}"
    return f"may raise or lower {of} {signed}"


def ball(effect: dict) -> str:
    """Return the ball that an effect was read at."""
    return f"{effect['norm']} eps {effect['eps']:g}"


def seeds(effects: Iterable[dict]) -> str:
    """Return the number of seeds, from the fewest to the most."""
    counts = sorted({effect["seeds"] for effect in effects})
    text = str(counts[0]) if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"
    return f"{text} seed" if text == "1" else f"{text} seeds"


def largest_eps(effects: list[dict]) -> list[dict]:
    """Return the effects at the largest eps of each norm."""
    largest: dict[str, float] = {}
    for effect in effects:
        largest[effect["norm"]] = max(effect["eps"], largest.get(effect["norm"], 0.0))
    return [effect for effect in effects if effect["eps"] == largest[effect["norm"]]]


def _joined(effects: list[dict], kind: str) -> str:
    parts = [f"training at {ball(effect)} {change(effect, kind)}" for effect in effects]
    return "; ".join(parts[:1] + [part.replace(f" points of {STANDARD}", " points") for part in parts[1:]])


def _small_sets(effects: list[dict]) -> str:
    first = [effect for effect in effects if effect["place"] == effects[0]["place"]]
    place = first[0]["place"]
    return f"{place[0].upper()}{place[1:]}, {_joined(first, 'C1')} ({seeds(first)})."


def _full_set(effects: list[dict]) -> str:
    return f"On the full training set, {_joined(effects, 'C2')} ({seeds(effects)})."


def _small_eps(effects: list[dict]) -> str:
    """Return the effects that the headline leaves out."""
    shown = [effect for effect in effects if effect not in largest_eps(effects)]
    return _full_set(shown) if shown else ""


def _trend(effects: list[dict]) -> str:
    shown = [effect for effect in effects if effect["place"] == "as a trend"]
    parts = [f"going from standard training to {ball(effect)} {change(effect, 'C3')}" for effect in shown]
    return f"Along the fitted line, {'; '.join(parts)} ({seeds(shown)})."


def _half(effects: list[dict]) -> str:
    parts = []
    for at, own in groupby(largest_eps(effects), ball):
        changes = [change(effect, STANDARD if STANDARD in effect["place"] else ROBUST) for effect in own]
        parts.append(f"at {at} {' and '.join(changes)}")
    return f"A half of natural images in each batch {'; '.join(parts)} ({seeds(effects)})."


def _gradients(effects: list[dict]) -> str:
    shown = [effect for effect in effects if effect["place"] == "energy share"]
    parts = [f"{100 * each['value']:+.1f} points after training at {ball(each)} {interval(each)}" for each in shown]
    share = "The share of a gradient's energy on the image's structure, against standard training"
    return f"{share}: {'; '.join(parts)} ({seeds(shown)})."


def _shares(effects: list[dict], place: str, text: str) -> str:
    shown = [effect for effect in effects if effect["place"] == place]
    parts = [f"{100 * (effect['value'] + effect['null']):.0f} % after training at {ball(effect)}" for effect in shown]
    return f"{text} {' and '.join(parts)} ({seeds(shown)})."


def _another_class(effects: list[dict]) -> str:
    return _shares(effects, "robust judge", "Of the examples that change class, a robust judge sees the new class in")


def _smooth(effects: list[dict]) -> str:
    return _shares(effects, "end", "At the end of the line a robust judge gives the new class a mean probability of")


SENTENCES = {
    "C1": _small_sets,
    "C2": _small_eps,
    "C3": _trend,
    "C4": _half,
    "C11": _gradients,
    "C12": _another_class,
    "C13": _smooth,
}


def percents(measures: list[dict]) -> list[str]:
    """Return measures in percent, with as many digits as tell them from 0 and from 100."""
    return [f"{100 * measure['value']:.4g} %" for measure in measures]


def _near(gap: float) -> str:
    return f"within {gap:.2g} of p" if gap else "exactly p"


def _exact(claim: dict) -> str:
    measures = claim["measures"]
    said = percents(measures)
    match claim["id"]:
        case "C5":
            worst = max(measures, key=lambda measure: measure["value"])
            return f"The largest excess over the bound is {100 * worst['value']:.2f} points, {worst['name']}."
        case "C6":
            return f"Both accuracies of sign(x1) are {_near(max(measure['value'] for measure in measures))}."
        case "C7":
            return (
                f"The standard SVM has at least {said[0]} standard and at most {said[1]} robust accuracy. "
                f"After adversarial training both are {_near(measures[2]['value'])}."
            )
        case "C8":
            return f"Standard SVMs keep {said[0]} of their accuracy on perturbations that were made without them."
        case "C9":
            standard, robust = (said[start::2] for start in (0, 1))
            return (
                f"The standard model has {', '.join(standard)} of its weight on weak pixels, the robust one "
                f"{', '.join(robust)}, by way of training."
            )
        case _:
            return (
                f"From the fewest to all pixels, standard accuracy goes from {said[0]} to {said[1]}, "
                f"robust accuracy from {said[2]} to {said[3]}."
            )


def sentence(claim: dict) -> str:
    """Return what was found of a claim, or "" where nothing was measured."""
    if claim["effects"]:
        return SENTENCES[claim["id"]](claim["effects"])
    return _exact(claim) if claim["measures"] else ""


def read(ledger: Path | str) -> list[dict]:
    """Return the claims of a ledger.json."""
    return json.loads(must_exist(Path(ledger)).read_text(encoding="utf-8"))["claims"]


def told(claims: list[dict], *ids: str, norm: str = "") -> str:
    """Return the verdicts on some claims and what was found of them as Markdown, in all norms or in one."""
    parts = []
    for claim in claims:
        if claim["id"] not in ids:
            continue
        effects, readings = (
            [each for each in claim[of] if not norm or each["norm"] == norm] for of in ("effects", "readings")
        )
        words = "; ".join(f"in {of}: {text}" if of else text for of, _, text in marks(effects, readings)) or NOT_TESTED
        whole = claim["id"] == "C2" and effects
        found = _full_set(effects) if whole else sentence({**claim, "effects": effects}) if readings else ""
        parts.append(f"**{claim['id']}. {claim['statement']}** Verdict: {words}. {found}".strip())
    return "\n\n".join(parts)


ANSWERS = {REPRODUCED: "yes", OPPOSITE: "no, the other way", EQUAL: "no", "": "in part"}


def answer(claims: list[dict]) -> str:
    """Return the answer to "is robustness at odds with accuracy?": yes if C2 is reproduced wherever it is read."""
    words = {effect["verdict"] for claim in claims if claim["id"] == "C2" for effect in claim["effects"]}
    if len(words) == 1:
        return ANSWERS.get(words.pop(), "undecided")
    return ANSWERS[""] if REPRODUCED in words else "undecided"


def headline(named: dict[str, list[dict]]) -> str:
    """Return the finding of the whole page from the claims of each data set.

    For each data set it has the answer, and the effect on the full training set at the largest eps of each norm.
    """
    parts = []
    for name, claims in named.items():
        effects = [effect for claim in claims if claim["id"] == "C2" for effect in largest_eps(claim["effects"])]
        if effects:
            full = f"on the full training set, {_joined(effects, 'C2')} ({seeds(effects)})"
            parts.append(f"On {name}, {answer(claims)}: {full}.")
    return " ".join(parts) or "Not tested: no nets were trained."


def marks(effects: list[dict], readings: list[dict]) -> list[tuple[str, list[dict], str]]:
    """Return for each norm its effects and its verdict in words: "equal at 1.5, reproduced at 2.5"."""
    rows = []
    for norm in dict.fromkeys(reading["norm"] for reading in readings):
        own = [reading for reading in readings if reading["norm"] == norm]
        words = [word for word in WORDS if any(reading["verdict"] == word for reading in own)]
        places = {word: _places([each["place"] for each in own if each["verdict"] == word]) for word in words}
        text = words[0] if len(words) == 1 else ", ".join(f"{word} {places[word]}" for word in words)
        rows.append(
            (norm, [{**each, "place": _short(each["place"])} for each in effects if each["norm"] == norm], text)
        )
    return rows


def _places(places: list[str]) -> str:
    """Return places in words: "in both accuracies at eps 1.5" where the list has standard and robust accuracy there."""
    said = []
    for place in places:
        both = place.replace(STANDARD, "both accuracies").replace(ROBUST, "both accuracies")
        pair = {place.replace(one, other) for one in (STANDARD, ROBUST) for other in (STANDARD, ROBUST)}
        said.append(both if len(pair) > 1 and pair <= set(places) else place)
    return " and ".join(filter(None, dict.fromkeys(said)))


def _short(place: str) -> str:
    """Return a place as it fits beside a mark: "standard, 1.5" for "in standard accuracy at eps 1.5"."""
    kind, at, eps = place.partition(" accuracy at eps")
    return f"{kind.removeprefix('in ')},{eps}" if at else place
