"""Names of settings that mean nothing, and what was perhaps meant. Pure."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Mapping, Sequence

from qwen_mitm.settings import Settings, Source, env_name, unknown_keys

from .facts import Unknown

#: Of the OpenCode plugin, of qwen-code, of scripts/setup.
_OTHERS = re.compile(r"QWEN_(API_KEY|PID_OFFSET_ENABLED|DEBUG|CODE_.*|MITM_.*|HOME|MODEL)")
_PREFIX = "QWEN_"


def unknown_names(env: Mapping[str, str], files: Sequence[Source]) -> Iterator[Unknown]:
    """Variables of the environment, and keys of the files, that no option has."""
    known = {env_name(field) for field in Settings.model_fields}
    for name in sorted(env):
        if name.startswith(_PREFIX) and name not in known and not _OTHERS.fullmatch(name):
            yield Unknown(name, "the environment", _nearest(name, sorted(known)))
    for file in files:
        for key in unknown_keys(file):
            yield Unknown(key, file.name, _nearest(key, sorted(Settings.model_fields)))


def _nearest(name: str, known: Sequence[str]) -> str | None:
    return next(iter(difflib.get_close_matches(name, known, n=1, cutoff=0.7)), None)
