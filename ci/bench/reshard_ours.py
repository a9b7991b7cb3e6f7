"""hfzarr's own ways: threads, the serial oracle, dask's threads, and a cluster."""

from __future__ import annotations

from typing import Any

from reshard_peers import Task


def ours(task: Task, *, client: str | None = None, verify: str | bool = False) -> None:
    """Reshard with hfzarr, in this process unless the task has a cluster."""
    import hfzarr

    job = task.job
    changed: dict[str, Any] = {"inner_chunk": job.inner, "codecs": job.codec.spelled}
    hfzarr.reshard(
        task.source,
        task.target,
        shard=job.shard,
        max_memory=job.max_memory,
        verify=verify,
        client=client or task.client,
        progress=False,
        **({} if job.kind == "repack" else changed),
    )
