# Only for the type checker: transformers' own package file pulls in 3000 files, 45 s each time the checker reads it.
from typing import Any

def __getattr__(name: str) -> Any: ...
