"""What counts as a usable prompt; free of torch, so that the web process judges it by the same rule."""

from t4d.errors import InputError

MAX_PROMPT = 300


def checked_prompt(prompt: str) -> str:
    """The prompt with its white space collapsed.

    Raises:
        InputError: empty or too long.
    """
    text = " ".join(prompt.split())
    if not text:
        raise InputError('The prompt is empty; write one sentence such as "a fox is running".')
    if len(text) > MAX_PROMPT:
        raise InputError(f"The prompt has {len(text)} characters; at most {MAX_PROMPT} are read, so shorten it.")
    return text
