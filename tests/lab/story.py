# SPDX-License-Identifier: Apache-2.0
"""What is told of a guest that moved from process to process (to-and-fro prints it), and how it must be."""

import json
import re
from dataclasses import dataclass, field
from statistics import median

from complaints import complaints, time_complaints

CLOCK_BOUND = 0.25  # seconds that a clock may be off
# Seconds by which the guest's own view of how long it stood may be less than what the source tells, and more; and more
# in half of the cases: the lab has one CPU for the guest, both processes and all else, and where the guest's code lies
# in another place all of it is emulated anew.
GAP_LESS, GAP_MORE, GAP_MEDIAN = 0.02, 4.0, 1.5
# A guest that was kept waiting between two reads of a clock, not one whose clock went wrong: that is told as a skew.
STARVED = re.compile(r"clocksource.* read-back delay of|TSC unstable due to clocksource watchdog")
CHAIN = re.compile(r"@chain (\d+) (\d+) [0-9a-f]{16} (\d+) (\d+) (\d+)")


@dataclass
class Line:
    """What a chain says after a round. Times in seconds."""

    number: int
    round: int
    monotonic: float
    realtime: float
    gap: float
    here: float  # this machine's clock, when the line was there


@dataclass
class Leg:
    """What was said in one process."""

    way: str = ""  # how it came there
    status: int = 0  # what the process before ended with
    downtime: float = 0.0  # seconds, that it told
    lines: list = field(default_factory=list)

    def of(self, number):
        return [line for line in self.lines if line.number == number]


@dataclass
class Story:
    """All that was said."""

    legs: list = field(default_factory=lambda: [Leg()])
    log: list = None  # the kernel's; None: it did not come to its end
    other: list = field(default_factory=list)

    def chains(self):
        return sorted({line.number for leg in self.legs for line in leg.lines})


def read_move(text):
    _, _, way, status, reply = text.split(" ", 4)
    try:
        downtime = json.loads(reply)["reply"]["downtime_us"] / 1e6
    except (ValueError, KeyError, TypeError):
        downtime = 0.0
    return Leg(way, int(status), downtime)


def read_chain(text, here):
    found = CHAIN.fullmatch(text)
    if not found:
        return None
    number, count, *times = map(int, found.groups())
    return Line(number, count, *(time / 1e6 for time in times), here)


def read(lines):
    """The story. What a process ended in the middle of a line, the next one goes on with."""
    story, log, begun = Story(), None, ""
    for line in lines:
        if line.startswith("@move "):
            story.legs.append(read_move(line))
            continue
        seconds, microseconds, text = (line.split(" ", 2) + ["", ""])[:3]
        if not seconds.isdigit() or not microseconds.isdigit():
            story.other.append(line)
            continue
        text = begun + text
        begun = ""
        if text.endswith(" @cut"):
            begun = text[: -len(" @cut")]
            continue
        text = text.strip("\r")
        said = read_chain(text, int(seconds) + int(microseconds) / 1e6)
        if said:
            story.legs[-1].lines.append(said)
        elif text == "@@ dmesg":
            log = []
        elif text == "@@ end":
            story.log = log
        elif log is not None and story.log is None:
            log.append(text)
        else:
            story.other.append(text)
    return story


def judge_chain(story, number):
    """What is wrong with a chain: each round is told once, and in order, over all processes."""
    lines = [line for leg in story.legs for line in leg.of(number)]
    for before, line in zip(lines, lines[1:]):
        if line.round != before.round + 1:
            yield f"chain {number}: after round {before.round} it tells of round {line.round}"
        if line.monotonic < before.monotonic or line.realtime < before.realtime:
            yield f"chain {number}: its clock goes back in round {line.round}"
    if not lines or lines[0].round != 1:
        yield f"chain {number} does not begin with round 1"


def gap_of(leg, number):
    """How long a chain stood when it came to the leg: what is told first may have been begun before."""
    return max((line.gap for line in leg.of(number)[:2]), default=0)


def judge_leg(story, at):
    """What is wrong with how the guest came to a leg."""
    leg = story.legs[at]
    if leg.status != 0:
        yield f"move {at}, {leg.way}: the source ended with status {leg.status}"
    if leg.downtime <= 0:
        yield f"move {at}, {leg.way}: the source tells no downtime"
    for number in story.chains():
        gap = gap_of(leg, number)
        if not -GAP_LESS <= gap - leg.downtime <= GAP_MORE:
            yield (f"move {at}, {leg.way}: the source tells that the guest stood for {leg.downtime:.3f} s, "
                   f"and chain {number} that it did for {gap:.3f} s")


def judge_median(story):
    """Of all moves, what the gaps are beyond what was told of them."""
    beyond = [gap_of(leg, number) - leg.downtime for leg in story.legs[1:] for number in story.chains()]
    if beyond and median(beyond) > GAP_MEDIAN:
        yield f"the guest stood longer than the source tells: by {median(beyond):.3f} s in half of the cases"


def offset(leg):
    """This machine's clock less the guest's. Lines are late and never early: the least says most."""
    return min(line.here - line.realtime for line in leg.lines)


def judge(story, times, cpus):
    if len(story.legs) != times + 1:
        yield f"it was moved {len(story.legs) - 1} times, and not {times}"
    if story.chains() != list(range(cpus)):
        yield f"there are chains {story.chains()}"
    for number in story.chains():
        yield from judge_chain(story, number)
    for at, leg in enumerate(story.legs):
        if not leg.lines:
            yield f"after move {at}: nothing was said"
        elif abs(offset(leg) - offset(story.legs[0])) > CLOCK_BOUND:
            yield f"after move {at}: the clock is off by {offset(leg) - offset(story.legs[0]):+.3f} s"
        if at:
            yield from judge_leg(story, at)
    yield from judge_median(story)
    yield from (line for line in story.other if "@broken" in line or "@chain" in line)
    if story.log is None:
        yield "the guest did not come to its end"
        return
    yield from (f"{reason}: {line}" for line, reason in complaints(story.log))
    yield from (line for line in time_complaints(story.log) if not STARVED.search(line))


def notes(story):
    said = [leg for leg in story.legs if leg.lines]
    yield "the clock, after each move: " + " ".join(f"{offset(leg) - offset(said[0]):+.3f}" for leg in said)
    for leg in said[1:]:
        seen = ", ".join(f"{gap_of(leg, number) * 1e3:.1f}" for number in story.chains())
        yield f"{leg.way}: stood for {leg.downtime * 1e3:.1f} ms by the source, {seen} by the guest"
