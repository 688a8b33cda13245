"""Each system is told the command that installs a program there."""

from __future__ import annotations

import pytest

from manylambda.host.install import install


@pytest.mark.parametrize(
    ("release", "command"),
    [
        ({"ID": "debian"}, "apt-get install podman"),
        ({"ID": "linuxmint", "ID_LIKE": "ubuntu debian"}, "apt-get install podman"),
        ({"ID": "rocky", "ID_LIKE": "rhel centos fedora"}, "dnf install podman"),
        ({"ID": "amzn", "ID_LIKE": "fedora"}, "dnf install podman"),
        ({"ID": "alpine"}, "apk add podman"),
        ({"ID": "manjaro", "ID_LIKE": "arch"}, "pacman -S podman"),
        ({"ID": "opensuse-tumbleweed", "ID_LIKE": "opensuse suse"}, "zypper install podman"),
        ({"ID": "nixos"}, None),
    ],
)
def test_each_linux_is_told_its_own_command(release: dict[str, str], command: str | None) -> None:
    assert install("podman", system="linux", release=release) == command


def test_other_systems_are_told_theirs() -> None:
    assert install("podman", system="darwin") == "brew install podman && podman machine init --now"
    assert install("podman", system="win32") == "winget install RedHat.Podman, then podman machine init --now"
    assert install("bubblewrap", system="darwin") is None
