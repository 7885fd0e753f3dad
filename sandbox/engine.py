"""The Docker engine: is there one, can it get a base image, what may reach it."""

from __future__ import annotations

import ipaddress
import json
import os
import subprocess
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from sandbox import processes
from sandbox.errors import SandboxError

PULL_SECONDS = 120.0
_ANSWER_SECONDS = 10.0


@dataclass(frozen=True)
class Engine:
    """A Docker engine that answers.

    Attributes:
        host: its address, as DOCKER_HOST takes it.
        architecture: "x86_64" or "arm64".
        gateway: the address under which containers reach this machine, if this machine owns it;
            None where the engine lives in a virtual machine (Docker Desktop), which maps
            host.docker.internal to this machine by itself.
        env: the environment for the `docker` command.
    """

    host: str
    architecture: str
    gateway: str | None
    env: Mapping[str, str]

    def has_image(self, image: str) -> bool:
        """Tell whether the image is present locally."""
        return self._docker("image", "inspect", image) is not None

    def can_get(self, image: str, log: Path) -> bool:
        """Tell whether the image is present, or can be pulled in a reasonable time."""
        if self.has_image(image):
            return True
        try:
            processes.run(
                f"docker pull {image}",
                ["docker", "pull", "--quiet", image],
                env=self.env,
                cwd=log.parent,
                log=log,
                seconds=PULL_SECONDS,
            )
        except SandboxError:
            return False
        return True

    def image_settings(self, image: str) -> dict[str, object]:
        """Return what `docker image inspect` says of an image.

        Raises:
            SandboxError: when there is no such image.
        """
        text = self._docker("image", "inspect", image)
        if text is None:
            raise SandboxError(f"the image {image} is not on this machine's Docker engine")
        settings: dict[str, object] = json.loads(text)[0]
        return settings

    def tag(self, image: str, name: str) -> None:
        """Give an image one more name."""
        self._docker("image", "tag", image, name)

    def remove_images(self, reference: str) -> None:
        """Remove all names of this repository, or this one name; the build cache stays."""
        listed = self._docker(
            "image",
            "ls",
            "--format",
            "{{.Repository}}:{{.Tag}}",
            "--filter",
            f"reference={reference}",
        )
        if listed and listed.split():
            self._docker("image", "rm", "--force", "--no-prune", *listed.split())

    def remove_nameless(self, ids: Iterable[str]) -> None:
        """Remove those of these images that have no name; what others build on stays."""
        for image in ids:
            text = self._docker("image", "inspect", "--format", "{{json .RepoTags}}", image)
            if text is not None and json.loads(text) in (None, []):
                self._docker("image", "rm", image)

    def remove_containers(self, label: str) -> None:
        """Remove the containers that carry this label, running ones too."""
        found = self._docker("ps", "--all", "--quiet", "--filter", f"label={label}")
        if found and found.split():
            self._docker("rm", "--force", "--volumes", *found.split())

    def _docker(self, *arguments: str) -> str | None:
        return _docker(arguments, self.env)


def find() -> Engine | None:
    """Return the Docker engine that the `docker` command uses, or None if none answers."""
    env = dict(os.environ)
    version = _docker(("version", "--format", "{{json .Server}}"), env)
    if version is None or version.strip() in ("", "null"):
        return None
    machine = json.loads(version).get("Arch", "amd64")
    host = env.get("DOCKER_HOST") or _context_host(env)
    return Engine(
        host=host,
        architecture=architecture_of(machine),
        gateway=_gateway(env),
        env={**env, "DOCKER_HOST": host},
    )


def architecture_of(machine: str) -> str:
    """What Lambda calls a processor that Docker or the system calls `machine`."""
    return "arm64" if machine in ("arm64", "aarch64") else "x86_64"


def _context_host(env: Mapping[str, str]) -> str:
    text = _docker(("context", "inspect", "--format", "{{.Endpoints.docker.Host}}"), env)
    return (text or "").strip() or "unix:///var/run/docker.sock"


def _gateway(env: Mapping[str, str]) -> str | None:
    text = _docker(("network", "inspect", "bridge"), env)
    configs = json.loads(text)[0]["IPAM"]["Config"] or [] if text else []
    usable = (address for address in map(gateway_of, configs) if _is_ours(address))
    return next(usable, None)


def gateway_of(config: Mapping[str, str]) -> str:
    """Return a network's gateway: its first address, where older engines do not say."""
    subnet = ipaddress.ip_network(config["Subnet"], strict=False)
    return config.get("Gateway") or str(subnet.network_address + 1)


def _is_ours(address: str) -> bool:
    return ":" not in address and processes.can_bind(address, 0)


def _docker(arguments: tuple[str, ...], env: Mapping[str, str]) -> str | None:
    """Run a short docker command; its output, or None when it fails or does not answer."""
    try:
        done = subprocess.run(
            ["docker", *arguments],
            env=dict(env),
            capture_output=True,
            text=True,
            timeout=_ANSWER_SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout if done.returncode == 0 else None
