"""`/data/`: a folder of one's own data sets, read-only, with ranges, and nothing outside that folder."""

from __future__ import annotations

from pathlib import Path

from aiohttp import web


def add_data_routes(app: web.Application, folder: Path) -> None:
    root = folder.resolve()

    async def get(request: web.Request) -> web.StreamResponse:
        path = find_file(root, request.match_info["path"])
        if path is None:
            raise web.HTTPNotFound(text=f"{request.path} is no file of the data folder\n")
        return web.FileResponse(path)

    app.router.add_get("/data/{path:.+}", get)


def find_file(root: Path, name: str) -> Path | None:
    """The file that `name` is under `root` (already resolved), or None; links must end inside too."""
    if "\0" in name:
        return None
    try:
        path = (root / name.lstrip("/")).resolve()
    except OSError:
        return None
    return path if path.is_relative_to(root) and path.is_file() else None
