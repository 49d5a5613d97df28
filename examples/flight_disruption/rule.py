"""What a passenger is owed: Regulation (EC) No 261/2004, as it stood in 2013. Pure: values in, values out.

**The text applied** (Official Journal L 46, 17.2.2004, pages 1 to 8, https://eur-lex.europa.eu/eli/reg/2004/261/oj):

* Article 7(1): "passengers shall receive compensation amounting to: (a) EUR 250 for all flights of 1 500 kilometres or less; (b) EUR
  400 for all intra-Community flights of more than 1 500 kilometres, and for all other flights between 1 500 and 3 500 kilometres;
  (c) EUR 600 for all flights not falling under (a) or (b)."
* Article 7(2): when passengers are offered re-routing "the arrival time of which does not exceed the scheduled arrival time of the
  flight originally booked" by two hours in case (a), three in case (b), four in case (c), the carrier "may reduce the compensation
  provided for in paragraph 1 by 50 %".
* Article 7(4): distances "shall be measured by the great circle route method".
* Article 5(1)(c)(iii): nothing is owed for a cancellation of which passengers hear less than seven days before, if they are offered
  re-routing, "allowing them to depart no more than one hour before the scheduled time of departure and to reach their final
  destination less than two hours after the scheduled time of arrival".
* Court of Justice, 19 November 2009, Sturgeon and Others, C-402/07 and C-432/07: a delayed flight counts as a cancelled one where
  passengers "reach their final destination three hours or more after the arrival time originally scheduled" (paragraph 61); in case
  (c) the reduction by half applies when that delay is "less than four hours" (paragraph 63).

**What this is not.** The flights of the file left New York for airports in the United States on carriers of that country, and Article 3
does not cover them: nothing was owed to anybody. The regulation serves here as a policy that was really published, with amounts
that follow from the columns of the file (US law, 14 CFR part 260, in force since 2024, grants the fare back, and the file has no
fares). The file also has no causes: the defence of extraordinary circumstances, Article 5(3), which most cancellations by snow would
meet, is never used. Where the carrier "may" reduce, it does. Amounts are per passenger.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum

DELAY_MIN = 180  # from here on a delay counts as a cancellation
REROUTING_EARLIER_MIN = 60  # Article 5(1)(c)(iii): leaves no more than this before ...
REROUTING_LATER_MIN = 120  # ... and arrives less than this after the times of the timetable


class Band(StrEnum):
    """The three cases of Article 7(1)."""

    SHORT = "7(1)(a)"  # 1,500 km or less
    MEDIUM = "7(1)(b)"  # up to 3,500 km
    LONG = "7(1)(c)"


AMOUNT_EUR = {Band.SHORT: Decimal(250), Band.MEDIUM: Decimal(400), Band.LONG: Decimal(600)}
HALVED_UP_TO_MIN = {Band.SHORT: 120, Band.MEDIUM: 180, Band.LONG: 240}  # Article 7(2)


@dataclass(frozen=True, slots=True)
class Entitlement:
    """What one passenger gets, and by which words."""

    amount_eur: Decimal
    basis: str


def band(distance_km: Decimal) -> Band:
    """Return the case of Article 7(1) for a distance in kilometres."""
    if distance_km <= 1500:
        return Band.SHORT
    return Band.MEDIUM if distance_km <= 3500 else Band.LONG


def for_delay(distance_km: Decimal, arrival_delay_min: int) -> Entitlement:
    """Return what a flight is worth to a passenger who arrived on it ``arrival_delay_min`` minutes late."""
    case = band(distance_km)
    if arrival_delay_min < DELAY_MIN:
        return Entitlement(Decimal(0), "Sturgeon, paragraph 61: less than three hours")
    if case is Band.LONG and arrival_delay_min < HALVED_UP_TO_MIN[case]:
        return Entitlement(AMOUNT_EUR[case] / 2, f"Article {case}; Sturgeon, paragraph 63: less than four hours")
    return Entitlement(AMOUNT_EUR[case], f"Article {case}; Sturgeon, paragraph 61")


def for_cancellation(distance_km: Decimal, departs_earlier_min: int, arrives_later_min: int) -> Entitlement:
    """Return what is owed for a cancelled flight, by how the flight offered instead compares with the timetable."""
    case = band(distance_km)
    if departs_earlier_min <= REROUTING_EARLIER_MIN and arrives_later_min < REROUTING_LATER_MIN:
        return Entitlement(Decimal(0), "Article 5(1)(c)(iii): re-routed in time")
    if arrives_later_min <= HALVED_UP_TO_MIN[case]:
        return Entitlement(AMOUNT_EUR[case] / 2, f"Article {case}; 7(2): re-routed with little delay")
    return Entitlement(AMOUNT_EUR[case], f"Article {case}")
