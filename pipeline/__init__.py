"""A pipeline that assigns ICD codes to clinical text.

Importing this package switches off telemetry and look-ups of model hubs, before any library that reads the
switches is imported. A stage lifts the hub switch only where its config says ``allow_downloads: true``.
"""

from __future__ import annotations

import os

_OFFLINE_SWITCHES = {
    "HF_HUB_OFFLINE": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "HF_DATASETS_OFFLINE": "1",
    "HF_UPDATE_DOWNLOAD_COUNTS": "0",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_ENABLE_ASYNC_LOGGING": "false",
    "DO_NOT_TRACK": "true",
    "TOKENIZERS_PARALLELISM": "false",
}

for _name, _value in _OFFLINE_SWITCHES.items():
    os.environ.setdefault(_name, _value)
