"""Stores turns of one conversation in a process of its own, and says so after each.

python -m tests.responses_worker FILE NAME TURNS BYTES
"""

from __future__ import annotations

import sys
from pathlib import Path

from qwen_mitm.responses_store import ResponsesStore
from tests.stored_turns import expanded, response, says


def main(path: str, name: str, turns: int, size: int) -> None:
    store = ResponsesStore(Path(path))
    previous = None
    for number in range(turns):
        own = f"{name}_{number}"
        expansion = expanded(store, f"{own} " + "x" * size, previous=previous)
        store.save(expansion.stored(response(own, says(f"answer to {own}", f"msg_{own}"))))
        print(own, flush=True)  # noqa: T201 - what the test waits for
        previous = own
    store.close()


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
