"""Loaded into the proxies of the tests before the addon: logs every rule that is broken.

So the answers are checked that go to programs which do not show them, such as OpenCode and Codex.
"""

import logging
import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parents[3]))

from tests.watch import BROKEN_RULE, WATCH, install

install()
WATCH.tell = lambda fault: logging.getLogger(__name__).warning("%s: %s", BROKEN_RULE, fault)
