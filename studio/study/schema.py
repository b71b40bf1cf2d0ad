"""The study file: one YAML file that fixes everything about a study before the first rater sees it."""

import hashlib
import json
from datetime import datetime
from pathlib import PurePosixPath
from typing import Annotated, ClassVar, Literal

from pydantic import AfterValidator, Field, model_validator

from studio.study.criteria import Criterion, paper_criteria
from studio.study.fields import Id, Needed, Strict, Text

CONSENT = """\
You will watch short videos of moving 3D objects and rate each from 1 to 5. There are no right or wrong answers.

- Taking part is voluntary. You may stop at any time by closing the page.
- Your ratings are stored under a random number, without your name and without your IP address.
- You may ask for your data, or for its deletion, by giving that number.

By going on you confirm that you are at least 18 years old and agree to take part.
"""


def _https(address: str) -> str:
    if not address.startswith("https://") or any(c.isspace() for c in address):
        raise ValueError("an https:// address is expected")
    return address


class Method(Strict):
    """One of the compared methods. Raters never see any of this."""

    id: Id
    label: Text = Field(default="", description="Name in tables; the id where empty.")
    source: Text = Field(default="", description="Where its results come from, for the record.")

    @property
    def name(self) -> str:
        """Name in tables."""
        return self.label or self.id


class Item(Strict):
    """One object with one video of every method.

    Attributes:
        id: name in the results.
        object: the object's name, for the record; raters see "Object k".
        prompt: the sentence, shown to raters.
        reference: picture of the static object; a path relative to the study file.
        videos: method id -> path relative to the study file.
    """

    id: Id
    object: Text = ""
    prompt: Needed
    reference: Needed
    videos: dict[Id, Needed]


class AttentionCheck(Strict):
    """A page that an attentive rater always gets right. Its scores never enter the analysis.

    With ``video`` it is an anchor: an obviously bad (or perfect) video, of which ``criterion`` must be scored between
    ``at_least`` and ``at_most``. Without, it is an instruction: the page of some item has one row more, whose text says
    which level to choose, ``answer``.
    """

    id: Id
    answer: int | None = Field(default=None, ge=1, le=9)
    question: Text = Field(default="", description="Instruction; '{answer}' is filled in.")
    item: Id | None = Field(default=None, description="Item whose reference and prompt are shown; None: seeded choice.")
    video: str | None = Field(default=None, max_length=1000, description="An anchor's video.")
    criterion: Id | None = None
    at_least: int = Field(default=1, ge=1, le=9)
    at_most: int = Field(default=9, ge=1, le=9)

    @property
    def instruction(self) -> str:
        """Text of an instruction's row."""
        text = self.question or "Attention check: please choose {answer} in this row"
        return text.replace("{answer}", str(self.answer))

    @model_validator(mode="after")
    def _one_kind(self) -> "AttentionCheck":
        if self.video is None and self.answer is None:
            raise ValueError("give 'answer' (the level asked for) or 'video' with 'criterion' and bounds")
        if self.video is not None and (self.answer is not None or self.criterion is None or self.item is None):
            raise ValueError("an anchor needs 'video', 'item', 'criterion' and 'at_most' or 'at_least'; no 'answer'")
        if self.video is not None and (self.at_least > self.at_most or (self.at_least, self.at_most) == (1, 9)):
            raise ValueError("an anchor needs 'at_most' or 'at_least', leaving some levels right and some wrong")
        return self


class Exclusion(Strict):
    """When a rater is left out of the analysis, fixed before the study; None switches a rule off.

    Excluded raters stay in the data, marked; the analysis is given with and without them.
    """

    failed_checks: int | None = Field(default=2, ge=1, description="Failed attention checks from which on.")
    straight_line: float | None = Field(
        default=0.95, gt=0, le=1, description="Share of pages with one score in all rows from which on."
    )
    min_page_s: float | None = Field(default=3.0, gt=0, description="Median seconds on a page below which.")
    min_pages: int | None = Field(default=1, ge=1, description="Answered pages (practice aside) below which.")


class Completion(Strict):
    """How a rater proves having finished.

    Attributes:
        code: shown at the end; None makes one for every rater, which a survey code of MTurk needs.
        redirect: https address to send the browser to; ``{code}`` and the incoming parameters' names in braces are
            filled in, e.g. ``https://app.prolific.com/submissions/complete?cc={code}``.
        params: query parameters kept with the participant, in a table of their own.
        participant_params: of these, those that name a person: who comes back with the same value is the same rater.
    """

    code: Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{1,64}$")] | None = None
    redirect: Annotated[str, Field(max_length=500), AfterValidator(_https)] | None = None
    params: tuple[Id, ...] = ("PROLIFIC_PID", "STUDY_ID", "SESSION_ID", "workerId", "assignmentId", "hitId")
    participant_params: tuple[Id, ...] = ("PROLIFIC_PID", "workerId")


class VideoSpec(Strict):
    """What every video of the study is made into, so that no method can be told by its format.

    Attributes:
        side: width and height, pixels; other shapes are padded with the background.
        fps: frames per second.
        seconds: length.
        fit: "stretch" plays the whole source clip in ``seconds``, whatever its own rate; "trim" plays it at its own
            rate and cuts after ``seconds`` (a shorter source is refused).
        background: colour "#rrggbb" under transparency and around; a plain background of another colour is replaced.
        crf: x264 quality, 0 .. 40.
    """

    side: int = Field(default=512, ge=64, le=1080, multiple_of=2)
    fps: int = Field(default=16, ge=1, le=60)
    seconds: float = Field(default=2.0, ge=0.25, le=60)
    fit: Literal["stretch", "trim"] = "stretch"
    background: str = Field(default="#808080", pattern=r"^#[0-9a-fA-F]{6}$")
    crf: int = Field(default=16, ge=0, le=40)

    @property
    def frames(self) -> int:
        """Frames of every prepared video."""
        return max(2, round(self.fps * self.seconds))

    @property
    def colour(self) -> tuple[int, int, int]:
        """The background, 0..255."""
        return tuple(int(self.background[i : i + 2], 16) for i in (1, 3, 5))  # type: ignore[return-value]


class StudyFile(Strict):
    """A whole study."""

    # What may change while raters answer.
    FREE: ClassVar = (
        "title",
        "consent",
        "agree",
        "instructions",
        "contact",
        "completion",
        "expires",
        "abandon_after_h",
    )

    title: Needed = "User study"
    seed: int = Field(default=0, ge=0, lt=2**63)
    methods: tuple[Method, ...] = Field(min_length=1, max_length=12)
    levels: int = Field(default=5, ge=2, le=9, description="Scores are 1 .. levels.")
    criteria: tuple[Criterion, ...] = Field(default_factory=paper_criteria, min_length=1, max_length=12)
    items: tuple[Item, ...] = Field(min_length=1, max_length=1000)
    practice: tuple[Id | Item, ...] = Field(
        default=(), max_length=20, description="Practice pages: items of their own, or ids of study items."
    )
    checks: tuple[AttentionCheck, ...] = Field(default=(), max_length=20)
    repeats: int = Field(default=0, ge=0, le=100, description="Pages every rater gets a second time.")
    items_per_rater: int | None = Field(default=None, ge=1, description="None: every rater sees all items.")
    layout: Literal["single", "side_by_side"] = "single"
    min_watch_s: float = Field(default=2.0, ge=0, le=120, description="Playing time of a video before submitting.")
    back: bool = Field(default=True, description="Whether answered pages may be changed.")
    comments: bool = Field(default=False, description="Whether pages have a comment field.")
    consent: str = Field(default=CONSENT, min_length=1, max_length=20_000, description="Information sheet, Markdown.")
    agree: Needed = Field(default="I have read this and agree to take part", description="Text of the consent box.")
    instructions: str = Field(
        default="Please rate the animation video result generated from the reference image and text prompt",
        max_length=2000,
        description="Sentence above every page's material (Fig. 11).",
    )
    contact: Text = Field(default="", description="Whom raters may write to.")
    exclusion: Exclusion = Exclusion()
    completion: Completion = Completion()
    expires: datetime | None = Field(default=None, description="When the study closes, with time zone.")
    abandon_after_h: float = Field(
        default=48, gt=0, description="Hours of silence after which an unfinished rater's plan is given to another."
    )
    video: VideoSpec = VideoSpec()

    @property
    def rated_items(self) -> int:
        """Items that one rater sees."""
        return self.items_per_rater or len(self.items)

    @property
    def pages(self) -> int:
        """Pages of one rater, practice included."""
        per_item = len(self.methods) if self.layout == "single" else 1
        return len(self.practice) + self.rated_items * per_item + len(self.checks) + self.repeats

    def practice_items(self) -> tuple[Item, ...]:
        """The practice pages' items."""
        known = {item.id: item for item in self.items}
        return tuple(known[entry] if isinstance(entry, str) else entry for entry in self.practice)

    def design_digest(self) -> str:
        """Names everything that answers depend on; `FREE` and the names used in tables may change."""
        fixed = self.model_dump(mode="json", exclude=set(self.FREE))
        fixed["methods"] = [method.id for method in self.methods]
        for entry in (*fixed["criteria"], *fixed["items"]):
            entry.pop("label", None)
            entry.pop("object", None)
        return hashlib.sha256(json.dumps(fixed, sort_keys=True).encode()).hexdigest()

    @model_validator(mode="after")
    def _consistent(self) -> "StudyFile":
        for what, ids in (
            ("method", [method.id for method in self.methods]),
            ("criterion", [criterion.id for criterion in self.criteria] + [check.id for check in self.checks]),
            ("item", [item.id for item in self.items] + [i.id for i in self.practice if not isinstance(i, str)]),
        ):
            doubled = sorted({name for name in ids if ids.count(name) > 1})
            if doubled:
                raise ValueError(f"the {what} id '{doubled[0]}' occurs twice; give each its own")
        self._check_items()
        self._check_checks()
        for criterion in self.criteria:
            if any(not 1 <= level <= self.levels for level in criterion.anchors):
                raise ValueError(f"an anchor of '{criterion.id}' is not on a level from 1 to {self.levels}")
        if self.items_per_rater is not None and self.items_per_rater > len(self.items):
            raise ValueError(f"items_per_rater is {self.items_per_rater}, but there are {len(self.items)} items")
        if self.expires is not None and self.expires.tzinfo is None:
            raise ValueError("'expires' has no time zone; write e.g. 2027-01-31T18:00:00+00:00")
        if self.min_watch_s > 30 * self.video.seconds:
            raise ValueError(f"min_watch_s is {self.min_watch_s:g}, over 30 times the videos' {self.video.seconds:g} s")
        return self

    def _check_items(self) -> None:
        methods = {method.id for method in self.methods}
        known = {item.id for item in self.items}
        for entry in self.practice:
            if isinstance(entry, str) and entry not in known:
                raise ValueError(f"practice names the item '{entry}', which does not exist")
        for item in (*self.items, *(entry for entry in self.practice if not isinstance(entry, str))):
            missing, extra = methods - item.videos.keys(), item.videos.keys() - methods
            if missing:
                raise ValueError(f"the item '{item.id}' has no video of the method '{min(missing)}'")
            if extra:
                raise ValueError(f"the item '{item.id}' has a video of '{min(extra)}', which is not a method")
            for path in (item.reference, *item.videos.values()):
                if "\\" in path or "\0" in path or not PurePosixPath(path).name:
                    raise ValueError(f"'{path[:80]}' of the item '{item.id}' is not a path with forward slashes")

    def _check_checks(self) -> None:
        known, criteria = {item.id for item in self.items}, {criterion.id for criterion in self.criteria}
        for check in self.checks:
            if check.item is not None and check.item not in known:
                raise ValueError(f"the check '{check.id}' names the item '{check.item}', which does not exist")
            if check.criterion is not None and check.criterion not in criteria:
                raise ValueError(f"the check '{check.id}' names '{check.criterion}', which is not a criterion")
            if (check.answer or 1) > self.levels or check.at_least > self.levels:
                raise ValueError(f"the check '{check.id}' asks for a level above {self.levels}")
        # Specials stand between objects, one in a gap; a repeat needs another object between itself and the original.
        specials, gaps = len(self.checks) + self.repeats, self.rated_items
        if specials > gaps or (self.repeats and self.repeats > gaps - 1):
            raise ValueError(
                f"{specials} checks and repeats do not fit between {gaps} objects; give fewer (repeats: at most "
                f"{max(0, gaps - 1)})"
            )
