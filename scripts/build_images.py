"""Build the images with whichever engine is there: docker, podman or buildah.

    python3 scripts/build_images.py [--engine docker] [--registry REGISTRY] [--dry-run] [operator runtime runtime-cpu]

Only the standard library: nothing has to be installed to build them.
"""

from __future__ import annotations

import argparse
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
ENGINES = ("docker", "podman", "buildah")
IMAGES = {
    "operator": ("operator", "kaito/operator", "", {}),
    "runtime": ("runtime", "kaito/runtime", "", {"VARIANT": "cuda"}),
    "runtime-cpu": ("runtime", "kaito/runtime", "-cpu", {"VARIANT": "cpu"}),
}
"""By name: the folder of the Dockerfile, the repository, the end of the tag, and arguments."""


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("images", nargs="*", help=f"any of {', '.join(IMAGES)}; all of them unless said otherwise")
    parser.add_argument("--engine", choices=ENGINES, help="the first that is installed unless said otherwise")
    parser.add_argument("--registry", default="", help="in front of the image's name")
    parser.add_argument("--dry-run", action="store_true", help="print the commands")
    given = parser.parse_args(arguments)
    unknown = [name for name in given.images if name not in IMAGES]
    if unknown:
        parser.error(f"no image is called {unknown[0]}; there are {', '.join(IMAGES)}")
    engine = given.engine or next((name for name in ENGINES if shutil.which(name)), None)
    if engine is None:
        print(f"none of {', '.join(ENGINES)} is installed", file=sys.stderr)
        return 1
    for name in given.images or IMAGES:
        command = build_command(engine, name, given.registry)
        print(shlex.join(command), flush=True)
        if not given.dry_run and subprocess.run(command, check=False, cwd=ROOT).returncode:
            return 1
    return 0


def build_command(engine: str, name: str, registry: str) -> list[str]:
    """What builds one image, in the words of the engine."""
    folder, repository, suffix, build_arguments = IMAGES[name]
    version = project_version()
    image = f"{registry.rstrip('/')}/{repository}" if registry else repository
    given = {**build_arguments, "VERSION": version, "REVISION": revision()}
    words = [word for key, value in given.items() for word in ("--build-arg", f"{key}={value}")]
    verb = "bud" if engine == "buildah" else "build"
    return [engine, verb, "-f", f"docker/{folder}/Dockerfile", "-t", f"{image}:{version}{suffix}", *words, "."]


def project_version() -> str:
    """The one place that has it."""
    found = re.search(r'^__version__ = "(.+)"$', (ROOT / "src/kaito/__init__.py").read_text(), re.MULTILINE)
    assert found is not None
    return found[1]


def revision() -> str:
    """The commit; "unknown" for a source without git."""
    if shutil.which("git") is None:
        return "unknown"
    done = subprocess.run(["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=False)
    return done.stdout.strip() or "unknown"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
