"""The paper's four criteria, worded and ordered as in its Fig. 11, named and explained as in Table 3 and Appendix 7."""

from pydantic import Field

from studio.study.fields import Id, Strict, Text

_QUALITY = {1: "very poor", 2: "poor", 3: "fair", 4: "good", 5: "very good"}
_CONSISTENCY = {1: "not at all", 2: "slightly", 3: "partly", 4: "mostly", 5: "completely"}


class Criterion(Strict):
    """One row of the rating grid, asked of every video."""

    id: Id = Field(description="Name in the results.")
    question: Text = Field(description="The row's text on the page.")
    label: Text = Field(default="", description="Column head in tables; the id where empty.")
    help: str = Field(default="", max_length=600, description="Explanation shown to raters on demand and in practice.")
    anchors: dict[int, Text] = Field(default_factory=dict, description="Texts of some levels, e.g. of 1 and 5.")


def paper_criteria() -> tuple[Criterion, ...]:
    """Fig. 11's four rows. The ids are those of Table 3: align_3d, align_text, appearance, motion."""
    return (
        Criterion(
            id="align_3d",
            question="Consistency with the reference image",
            label="Align. 3D",
            help="Is it still the same object: its shape, its colours and fine texture, from every side, all the time?",
            anchors=_CONSISTENCY,
        ),
        Criterion(
            id="align_text",
            question="Consistency with the text",
            label="Align. Text",
            help="Does the object, and above all what it does, match the sentence?",
            anchors=_CONSISTENCY,
        ),
        Criterion(
            id="appearance",
            question="Visual quality of the results",
            label="Appr.",
            help="Are the single pictures sharp, rich and well lit, without blur, seams or rings?",
            anchors=_QUALITY,
        ),
        Criterion(
            id="motion",
            question="Motion/movement quality of the results",
            label="Mot.",
            help="Is the movement plausible, smooth and continuous, without jitter, ghosts or flicker?",
            anchors=_QUALITY,
        ),
    )


TABLE_3 = ("align_text", "align_3d", "motion", "appearance")
