"""The golden scenarios: logs with every result that they must have."""

import json
from pathlib import Path
from typing import Any, Final

_FOLDER: Final = Path(__file__).parent / "golden"

SCENARIOS: Final[dict[str, dict[str, Any]]] = {
    path.stem: json.loads(path.read_text(encoding="utf-8")) for path in sorted(_FOLDER.glob("*.json"))
}
