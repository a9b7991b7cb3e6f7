"""Open an OME-Zarr image, choose a level and a region in micrometres, save a picture of it.

Run ``hfzarr demo`` first, then::

    python examples/open_ome_zarr.py hfzarr-demo/cells.ome.zarr region.png
"""

import sys

import xarray as xr

from hfzarr.faces.picture import channel_looks, composite, resize, save_png


def main(store: str = "hfzarr-demo/cells.ome.zarr", png: str = "region.png") -> None:
    # Opening reads metadata only. level=0 is the finest; level=-1 would be the coarsest.
    ds = xr.open_dataset(store, engine="hfzarr", level=1)
    image = ds["image"]
    print(ds)

    # Channels have names, in the coordinate c. Colours and contrast are in the attributes.
    looks = channel_looks(image)
    for look in looks:
        print(f"{look.name}: colour {look.color}, window {look.window}")

    # A region is chosen by position, whatever the level: from 16 to 48 micrometres.
    region = image.sel(y=slice(16, 48), x=slice(16, 48))
    print("the region has", dict(region.sizes), "and starts at y =", float(region.y[0]))

    # Only now are pixels read, and only the chunks that the region touches.
    picture = composite(region, looks=looks)
    height, width = (4 * size for size in picture.shape[:2])
    save_png(resize(picture, height, width), png)
    print("saved", png)

    # The labels lie beside the image in the tree and share its coordinates.
    tree = xr.open_datatree(store, engine="hfzarr")
    nuclei = tree["labels/nuclei/1"]["labels"].sel(y=region.y, x=region.x)
    inside = region.sel(c="Nuclei").where(nuclei > 0)
    print(f"mean signal inside the nuclei: {float(inside.mean()):.0f} counts")
    print(f"mean signal of the region:     {float(region.sel(c='Nuclei').mean()):.0f} counts")


if __name__ == "__main__":
    main(*sys.argv[1:])
