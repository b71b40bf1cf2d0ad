"""Tables of ``study.db``. Times are Unix seconds, UTC. No table has a column for an address of a machine."""

from sqlmodel import CheckConstraint, Field, SQLModel, UniqueConstraint

from studio.study.contract import MAX_COMMENT


class Meta(SQLModel, table=True):
    """Facts about the database, such as the digest of the design that its answers belong to."""

    key: str = Field(primary_key=True)
    value: str


class Participant(SQLModel, table=True):
    """A rater.

    Attributes:
        id: pseudonym, unrelated to any code.
        slot: number of the plan; several raters share one only where all but one have given up.
        completion: the completion code given at the end.
        erasing: lets `Store.erase` delete this rater's answers; nothing else can.
    """

    id: str = Field(primary_key=True)
    slot: int | None = Field(default=None, index=True)
    joined_at: float
    consented_at: float | None = None
    seen_at: float
    finished_at: float | None = None
    completion: str | None = None
    erasing: bool = False


class Code(SQLModel, table=True):
    """SHA-256 of a resume code. The code itself is known to its rater only; one rater may have several."""

    digest: str = Field(primary_key=True)
    participant: str = Field(foreign_key="participant.id", index=True)


class External(SQLModel, table=True):
    """A query parameter of a recruiting service; apart from the ratings, never exported with them."""

    __table_args__ = (UniqueConstraint("participant", "name"),)

    id: int | None = Field(default=None, primary_key=True)
    participant: str = Field(foreign_key="participant.id", index=True)
    name: str
    value: str = Field(index=True)


class PlanPage(SQLModel, table=True):
    """One page of one rater, fixed at consent.

    Attributes:
        position: 0 .. pages - 1.
        methods: ids separated by spaces, in the order of the slots A, B, ...; empty on an anchor check.
        attention: id of the attention check, or None.
        repeat_of: position of the page that this one repeats, or None.
    """

    __tablename__ = "page"  # type: ignore[assignment]
    __table_args__ = (
        UniqueConstraint("participant", "position"),
        CheckConstraint("kind IN ('practice', 'item', 'check', 'repeat')"),
    )

    token: str = Field(primary_key=True)
    participant: str = Field(foreign_key="participant.id", index=True)
    position: int
    kind: str
    item: str
    methods: str
    title: str
    result: int
    attention: str | None = None
    repeat_of: int | None = None


class Answer(SQLModel, table=True):
    """One submission. Rows are added, never changed (a trigger refuses it): an edit is a further row.

    Attributes:
        key: idempotency key.
        draft: an autosave; False where the rater submitted the page.
        complete: every row has a score.
        digest: of the content, so that a key sent again with other content is noticed.
    """

    __table_args__ = (
        CheckConstraint(f"length(comment) <= {MAX_COMMENT}"),
        CheckConstraint("watched_s >= 0 AND page_s >= 0 AND edit >= 0"),
        CheckConstraint("draft OR complete"),
        {"sqlite_autoincrement": True},
    )

    id: int | None = Field(default=None, primary_key=True)
    key: str = Field(unique=True)
    token: str = Field(foreign_key="page.token", index=True)
    at: float
    draft: bool
    complete: bool
    edit: int
    digest: str
    comment: str
    watched_s: float
    page_s: float


class Score(SQLModel, table=True):
    """One cell of an answer's grid; ``levels`` stands beside it so that the row explains itself."""

    __table_args__ = (CheckConstraint("score BETWEEN 1 AND levels AND typeof(score) = 'integer'"),)

    answer: int = Field(foreign_key="answer.id", primary_key=True)
    slot: str = Field(primary_key=True)
    row: str = Field(primary_key=True)
    method: str
    score: int
    levels: int


class Journal(SQLModel, table=True):
    """Every change in order; ``answers.jsonl`` is its copy, and a lost database is rebuilt from that."""

    __table_args__ = ({"sqlite_autoincrement": True},)

    n: int | None = Field(default=None, primary_key=True)
    participant: str = Field(index=True)
    kind: str
    body: str


class Event(SQLModel, table=True):
    """Refused requests, counted by kind and rater so that a flood of them stays small."""

    kind: str = Field(primary_key=True)
    participant: str = Field(primary_key=True)
    count: int
    first_at: float
    last_at: float
    detail: str


# An answer counts once its page was submitted; from then on complete autosaves are edits like any other.
VIEWS_AND_TRIGGERS = (
    """CREATE VIEW newest_answer AS SELECT * FROM answer AS a WHERE NOT EXISTS (SELECT 1 FROM answer AS b
         WHERE b.token = a.token AND (b.edit > a.edit OR (b.edit = a.edit AND b.id > a.id)))""",
    """CREATE VIEW current_answer AS SELECT * FROM answer AS a WHERE a.complete
         AND EXISTS (SELECT 1 FROM answer AS f WHERE f.token = a.token AND NOT f.draft)
         AND NOT EXISTS (SELECT 1 FROM answer AS b WHERE b.token = a.token AND b.complete
                         AND (b.edit > a.edit OR (b.edit = a.edit AND b.id > a.id)))""",
    """CREATE TRIGGER answer_is_final BEFORE UPDATE ON answer
         BEGIN SELECT RAISE(ABORT, 'answers are never changed'); END""",
    """CREATE TRIGGER score_is_final BEFORE UPDATE ON score
         BEGIN SELECT RAISE(ABORT, 'answers are never changed'); END""",
    """CREATE TRIGGER answer_stays BEFORE DELETE ON answer WHEN NOT (SELECT p.erasing FROM page
         JOIN participant AS p ON p.id = page.participant WHERE page.token = OLD.token)
         BEGIN SELECT RAISE(ABORT, 'answers are never deleted'); END""",
    """CREATE TRIGGER score_stays BEFORE DELETE ON score WHEN NOT (SELECT p.erasing FROM answer
         JOIN page ON page.token = answer.token JOIN participant AS p ON p.id = page.participant
         WHERE answer.id = OLD.answer)
         BEGIN SELECT RAISE(ABORT, 'answers are never deleted'); END""",
)
