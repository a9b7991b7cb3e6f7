"""Downloads by git's own protocol for large files, as the loopback Hub answers them."""

from __future__ import annotations

from collections.abc import Callable

from hub import Answer, Asked, Hub
from hub.access import find_repo


def downloads(hub: Hub) -> Callable[[Asked], Answer | None]:
    """What says where many large objects lie: put it into ``Hub.faults``."""

    def answer(asked: Asked) -> Answer | None:
        if not asked.target.endswith(".git/info/lfs/objects/batch"):
            return None
        said = asked.json()
        if said["operation"] != "download" or asked.method != "POST":
            return None
        *kind, owner, name = asked.parts[:-4]
        name = f"{owner}/{name.removesuffix('.git')}"
        repo = find_repo(hub.state, asked, kind[0] if kind else "models", name)
        found = []
        for one in said["objects"]:
            told = {"oid": one["oid"], "size": one["size"]}
            if len(repo.objects.get(one["oid"], b"")) != one["size"]:
                found.append({**told, "error": {"code": 404, "message": "Object does not exist"}})
                continue
            there = hub.signed("GET", f"/{repo.type}/{name}/{one['oid']}")
            action = {"download": {"href": there}}
            found.append({**told, "authenticated": True, "actions": action})
        return Answer.json({"transfer": "basic", "objects": found})

    return answer
