"""What a handle turns out to be: an array, a group, an image."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hfzarr.model.coords import AxisCoord
from hfzarr.model.ome.image import Image, Level, find_level
from hfzarr.rows.facts import channel_names
from hfzarr.rows.handle import ZarrHandle
from hfzarr.store.location import join_path
from hfzarr.store.node import Kind

__all__ = ["OmeZarr", "ZarrArray", "ZarrGroup", "kind_of"]


class ZarrArray(ZarrHandle):
    """A handle of an array; see `ZarrHandle`.

    Examples
    --------
    >>> import numpy as np, tempfile, zarr
    >>> folder = tempfile.mkdtemp() + "/group.zarr"
    >>> group = zarr.create_group(folder)
    >>> _ = group.create_array("a", data=np.arange(4))
    >>> array = ZarrGroup(folder)["a"]
    >>> type(array).__name__, array.node, array[-2:].tolist()
    ('ZarrArray', 'a', [2, 3])
    """

    __slots__ = ()


class ZarrGroup(ZarrHandle):
    """A handle of a group; see `ZarrHandle`.

    Examples
    --------
    >>> import tempfile, zarr
    >>> folder = tempfile.mkdtemp() + "/group.zarr"
    >>> _ = zarr.create_group(folder).create_group("a/b")
    >>> group = ZarrGroup(folder)
    >>> group.keys(), "a/b" in group, group["a"].keys()
    (['a'], True, ['b'])
    """

    __slots__ = ()


class OmeZarr(ZarrGroup):
    """A handle of an OME-Zarr image; see `ZarrHandle`.

    ``shape``, ``dtype``, ``chunks`` and indices are those of its finest level.

    Examples
    --------
    >>> import tempfile, zarr
    >>> folder = tempfile.mkdtemp() + "/cells.ome.zarr"
    >>> scale = [{"type": "scale", "scale": [0.5, 0.5]}]
    >>> ome = {"version": "0.5", "multiscales": [{
    ...     "axes": [{"name": n, "type": "space", "unit": "micrometer"} for n in "yx"],
    ...     "datasets": [{"path": "0", "coordinateTransformations": scale}],
    ... }]}
    >>> group = zarr.create_group(folder, attributes={"ome": ome})
    >>> _ = group.create_array("0", shape=(4, 6), dtype="u1", dimension_names=["y", "x"])
    >>> image = ZarrHandle(folder).resolve()
    >>> type(image).__name__, image.num_levels, image.shape, image.scale, image.units
    ('OmeZarr', 1, (4, 6), (0.5, 0.5), ('micrometer', 'micrometer'))
    """

    __slots__ = ()

    def _image(self) -> Image:
        return self.store.image(self.node)

    @property
    def num_levels(self) -> int:
        """Number of resolutions."""
        return len(self._image().levels)

    @property
    def levels(self) -> list[ZarrArray]:
        """Its resolutions, finest first."""
        return [self._array(level) for level in self._image().levels]

    def get_level(self, level: int | str = 0) -> ZarrArray:
        """Return a level: 0 is the finest, -1 the coarsest, or its name.

        Raises
        ------
        NodeNotFoundError
            The image has no such level.
        """
        with self.store.naming():
            return self._array(find_level(self._image(), level))

    def _array(self, level: Level) -> ZarrArray:
        return self.at(ZarrArray, join_path(self.node, level.path))

    @property
    def axes(self) -> list[dict[str, str]]:
        """Name, and type and unit where there are, of each axis."""
        return [
            {
                "name": axis.name,
                **({"type": axis.type} if axis.type else {}),
                **({"unit": axis.unit} if axis.unit else {}),
            }
            for axis in self._image().axes
        ]

    @property
    def axis_names(self) -> tuple[str, ...]:
        """Name of each axis."""
        return tuple(axis.name for axis in self._image().axes)

    @property
    def axis_types(self) -> tuple[str | None, ...]:
        """Type of each axis, such as ``"space"``."""
        return tuple(axis.type for axis in self._image().axes)

    @property
    def units(self) -> tuple[str | None, ...]:
        """Unit of each axis, such as ``"micrometer"``."""
        return tuple(axis.unit for axis in self._image().axes)

    @property
    def scale(self) -> tuple[float, ...]:
        """Step from pixel to pixel along each axis at the finest level, in `units`."""
        return self.get_scale(0)

    def get_scale(self, level: int | str = 0) -> tuple[float, ...]:
        """Return the step from pixel to pixel along each axis of a level; 1 where none is known."""
        return self._steps(level, "scale", 1.0)

    @property
    def translation(self) -> tuple[float, ...]:
        """Position of the first pixel along each axis at the finest level, in `units`."""
        return self._steps(0, "offset", 0.0)

    def _steps(self, level: int | str, name: str, default: float) -> tuple[float, ...]:
        found = find_level(self._image(), level)
        known = {c.name: getattr(c, name) for c in found.coords if isinstance(c, AxisCoord)}
        return tuple(float(known.get(dim, default)) for dim in found.dims)

    @property
    def channel_names(self) -> tuple[str, ...]:
        """Name of each channel, where the image names them."""
        return channel_names(self._image()) or ()

    @property
    def labels(self) -> tuple[str, ...]:
        """Paths of its label images: ``image["labels/nuclei"]``."""
        if "labels" not in self:
            return ()
        below = self["labels"]
        names = below.keys()
        return tuple(f"labels/{name}" for name in names if below[name].kind == "image")

    @property
    def ome_version(self) -> str:
        """Version of the OME-Zarr specification that it is read as."""
        return self._image().version

    @property
    def multiscales(self) -> list[Mapping[str, Any]]:
        """Its ``multiscales`` metadata, as it is written."""
        ome = self.store.look(self.node).ome
        return list(ome.data["multiscales"]) if ome is not None else []


_KINDS: Mapping[Kind, type[ZarrArray] | type[ZarrGroup]] = {"array": ZarrArray, "image": OmeZarr}


def kind_of(kind: Kind) -> type[ZarrArray] | type[ZarrGroup]:
    """Return the class of the handles of a kind of node."""
    return _KINDS.get(kind, ZarrGroup)
