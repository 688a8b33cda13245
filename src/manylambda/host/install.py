"""How a program is got on this system, for hints."""

from __future__ import annotations

import platform
import sys
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

_INSTALLERS: Final = {
    "debian": "apt-get install",
    "fedora": "dnf install",
    "alpine": "apk add",
    "arch": "pacman -S",
    "suse": "zypper install",
}
_FAMILIES: Final = {
    "ubuntu": "debian",
    "rhel": "fedora",
    "centos": "fedora",
    "amzn": "fedora",
    "opensuse": "suse",
    "sles": "suse",
    "archlinux": "arch",
}
# Where a package is called otherwise than the program.
_PACKAGES: Final[Mapping[str, Mapping[str, str]]] = {
    "qemu": {
        "debian": "qemu-user-static binfmt-support",
        "fedora": "qemu-user-static",
        "alpine": "qemu-aarch64 qemu-x86_64 qemu-openrc",
        "arch": "qemu-user-static-binfmt",
        "suse": "qemu-linux-user",
    },
}
_ELSEWHERE: Final[Mapping[str, Mapping[str, str]]] = {
    "darwin": {"podman": "brew install podman && podman machine init --now"},
    "win32": {"podman": "winget install RedHat.Podman, then podman machine init --now"},
}


def install(program: str, *, system: str = sys.platform, release: Mapping[str, str] | None = None) -> str | None:
    """Give the command that installs `podman`, `bubblewrap` or `qemu` here; None where it is not known.

    `release` is what `/etc/os-release` says, asked of this host when it is not given.
    """
    if system != "linux":
        return _ELSEWHERE.get(system, {}).get(program)
    if release is None:
        try:
            release = platform.freedesktop_os_release()
        except OSError:
            return None
    for name in (release.get("ID", ""), *release.get("ID_LIKE", "").split()):
        family = _FAMILIES.get(name.partition("-")[0], name)
        if family in _INSTALLERS:
            return f"{_INSTALLERS[family]} {_PACKAGES.get(program, {}).get(family, program)}"
    return None
