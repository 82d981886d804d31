"""Checks the page's environment variables before Gradio is imported.

Gradio reads some of them once, while it is imported, and ends with a traceback where it cannot use a value.
"""

from __future__ import annotations

import importlib.util
import os
import socket
from pathlib import Path
from urllib.parse import urlsplit

from hierseg.errors import UserError
from hierseg.page.cleaning import private_folder

_LAST_PORT = 65_535
# What whoever runs the page may set. Others would start servers beside the guarded one, or end in a traceback.
_TAKEN = {"MCP_SERVER", "NUM_PORTS", "ROOT_PATH", "SERVER_NAME", "SERVER_PORT", "SHARE", "TEMP_DIR"}


class StartError(UserError):
    """The page cannot be served as the environment asks. The message says which variable to change."""


def prepare() -> tuple[str, Path]:
    """Check the variables of the environment that concern the page, and set what Gradio is to find there.

    Returns:
        The name or address at which the page is served, an IPv6 one in brackets, which Gradio's variable does not take;
        and where Gradio writes, see `cleaning.private_folder`.

    Raises:
        StartError: One of them cannot be used.
    """
    # The page asks nobody but itself, when it starts and for MCP: no proxy would find it, and no certificate is needed.
    os.environ["no_proxy"] = "*"
    for name in ("SSL_CERT_FILE", "SSL_CERT_DIR"):  # they may name what is not there
        os.environ.pop(name, None)
    for name in [name for name in os.environ if name.startswith("GRADIO_") and name[7:] not in _TAKEN]:
        del os.environ[name]
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    # Gradio would keep the last 10,000 requests, and count them anew at each that is refused.
    os.environ["GRADIO_ANALYTICS_MAX_EVENTS"] = "1"
    os.environ["GRADIO_ANALYTICS_CACHE_FREQUENCY"] = str(10**9)
    _check_packages()
    _set_root_path()
    host = os.environ.pop("GRADIO_SERVER_NAME", "").strip("[] ") or "127.0.0.1"
    os.environ["GRADIO_SERVER_PORT"] = str(_free_port(host))
    try:
        os.environ["GRADIO_TEMP_DIR"] = folder = private_folder()
    except OSError as error:
        raise StartError(
            f"Photos cannot be kept in {error.filename}: {error.strerror}. Set GRADIO_TEMP_DIR to a folder that can be "
            "written."
        ) from error
    return f"[{host}]" if ":" in host else host, Path(folder)


def _check_packages() -> None:
    if os.environ.get("GRADIO_MCP_SERVER", "").lower() == "true" and not _installed("mcp"):
        raise StartError("GRADIO_MCP_SERVER needs a package. Run: pip install -r requirements-mcp.txt")
    if not _installed("spaces"):
        if os.environ.get("SPACES_ZERO_GPU", "").lower() == "true":
            raise StartError("A ZeroGPU Space needs the package spaces. Add it to requirements.txt.")
        os.environ.pop("SYSTEM", None)  # "spaces": Gradio would use the package to load the page anew at changes


def _installed(package: str) -> bool:
    return importlib.util.find_spec(package) is not None


def _set_root_path() -> None:
    """Write the path under which a proxy has the page as Gradio takes it: /path, or an address with no slash last."""
    path = os.environ.get("GRADIO_ROOT_PATH", "").strip().rstrip("/")
    address = "://" in path
    try:
        parts = urlsplit(path if address else path and f"/{path.lstrip('/')}")
        good = not (parts.query or parts.fragment or set(path) & set(" \\%"))
        good &= not address or (parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0)
    except ValueError:
        good = False
    if not good:
        raise StartError(f"GRADIO_ROOT_PATH must be a path or the page's address, like /people, not {path!r}.")
    os.environ["GRADIO_ROOT_PATH"] = parts.geturl()


def _free_port(host: str) -> int:
    """Return the first port that is free, from `GRADIO_SERVER_PORT` on."""
    first = _whole_number("GRADIO_SERVER_PORT", 7860)
    last = min(first + _whole_number("GRADIO_NUM_PORTS", 100) - 1, _LAST_PORT)
    try:
        family, kind, _, _, address = socket.getaddrinfo(host, first, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind) as probe:
            probe.bind((address[0], 0, *address[2:]))
    except (OSError, UnicodeError) as error:
        raise StartError(f"GRADIO_SERVER_NAME must be a name or address of this machine, not {host!r}.") from error
    for port in range(first, last + 1):
        with socket.socket(family, kind) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((address[0], port, *address[2:]))
            except OSError:
                continue
            return port
    raise StartError(
        f"No port from {first} to {last} can be used on {host}. End what uses them, or set GRADIO_SERVER_PORT to "
        "another one."
    )


def _whole_number(variable: str, default: int) -> int:
    value = os.environ.get(variable, "").strip() or str(default)
    if not (value.isascii() and value.isdecimal() and 0 < int(value[:6]) <= _LAST_PORT and len(value) < 7):
        raise StartError(f"{variable} must be a whole number from 1 to {_LAST_PORT}, not {value[:100]!r}.")
    os.environ[variable] = value
    return int(value)
