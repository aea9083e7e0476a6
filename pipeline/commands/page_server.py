"""The page of MLflow: started for its user alone, ended with everything that it started."""

from __future__ import annotations

import contextlib
import http.client
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import NoReturn

from pipeline.errors import UserError
from pipeline.experiment.mlflow_store import check_store, has_store, page_path, tracking_uri


def serve(tracking_dir: Path, port: int) -> None:
    """Serve the page on 127.0.0.1 until Ctrl-C or SIGTERM.

    Raises:
        UserError: if the port is taken, no runs were tracked there, or the server ends by itself.
    """
    if _answers(port):
        raise UserError(f"--port {port}: another program answers there; name another port.")
    if not has_store(tracking_dir):
        raise UserError(f"--tracking-dir {tracking_dir}: no runs were tracked there yet; `icd run` makes the first.")
    page = page_path(check_store(tracking_dir))
    command = [sys.executable, "-m", "mlflow", "ui"]
    command += ["--default-artifact-root", (tracking_dir / "artifacts").resolve().as_uri()]
    # One process serves a user's page; MLflow's default is four, and eight for jobs that nothing here asks for.
    command += ["--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    environment = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"} | os.environ
    environment["MLFLOW_BACKEND_STORE_URI"] = tracking_uri(tracking_dir)  # every user can read what a command is given
    sys.stderr.write("the MLflow page starts, which takes some seconds ...\n")
    signal.signal(signal.SIGTERM, _interrupt)
    # Its log is not our answer; a group of its own, since MLflow's processes do not all end with the first.
    with subprocess.Popen(command, stdout=sys.stderr, env=environment, start_new_session=True) as server:
        try:
            while server.poll() is None and not _answers(port):
                time.sleep(0.2)
            if server.poll() is None:
                sys.stdout.write(f"MLflow: http://127.0.0.1:{port}/{page} (Ctrl-C to stop)\n")
                sys.stdout.flush()
            raise UserError(f"the page's server ended by itself (status {server.wait()}); its log above says why.")
        except KeyboardInterrupt:
            pass
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(server.pid, signal.SIGTERM)


def _interrupt(*_: object) -> NoReturn:
    raise KeyboardInterrupt


def _answers(port: int) -> bool:
    """Whether a page is served on a port of this machine."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=2)
    with contextlib.suppress(OSError, http.client.HTTPException), contextlib.closing(connection):
        connection.request("GET", "/health")
        return connection.getresponse().status < http.HTTPStatus.INTERNAL_SERVER_ERROR
    return False
