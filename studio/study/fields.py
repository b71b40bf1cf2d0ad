"""Types that the study file's models share."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, StringConstraints

# Ids become dictionary keys, CSV cells and parts of score keys ("slot/criterion"), never file names or HTML ids.
Id = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.+-]{0,63}$")]
Text = Annotated[str, StringConstraints(strip_whitespace=True, max_length=300)]
Needed = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=1000)]


class Strict(BaseModel):
    """Unknown fields are refused; values never change."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)
