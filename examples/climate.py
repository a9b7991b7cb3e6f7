"""A climate model's output: its calendar, a climatology, a regional mean, fast time series.

The run is made up where it is missing: daily temperature near the ground, on a grid of 5 degrees,
packed into int16, in years without leap days, and a file a day, as models write it. A map then
costs one file, and the series of one place costs all of them. Written anew with whole series in
its chunks, the store serves series at once, and a map costs a few requests. It needs cftime, for
the calendar::

    python examples/climate.py --out climate --years 3
"""

import argparse
import time
from pathlib import Path

import numpy as np
import xarray as xr

import hfzarr
from hfzarr.faces.picture import resize, save_png

STEP = 5.0  # degrees
PLACE = {"lat": 52.5, "lon": 12.5}
EUROPE = {"lat": slice(35, 70), "lon": slice(0, 40)}


def edges(centres: np.ndarray) -> np.ndarray:
    """The two ends of each cell."""
    return np.stack([centres - STEP / 2, centres + STEP / 2], axis=1)


def model_run(years: int) -> xr.Dataset:
    """Make up a run: poles are cold, seasons opposite, land swings more, weather is noise."""
    days = xr.date_range("2001-01-01", periods=365 * years, calendar="noleap", use_cftime=True)
    lat, lon = np.arange(-90 + STEP / 2, 90, STEP), np.arange(STEP / 2, 360, STEP)
    far_north = np.sin(np.deg2rad(lat))[:, None]
    land = 1 + 0.6 * np.cos(np.deg2rad(lon - 80)) * np.cos(np.deg2rad(lat))[:, None]
    # The coldest day in the north is the twentieth.
    season = -np.cos(2 * np.pi * (np.arange(days.size) % 365 - 19) / 365)[:, None, None]
    tas = 300 - 42 * far_north**2 + 14 * season * far_north * land
    tas = tas + np.random.default_rng(0).normal(0, 2, tas.shape)
    return xr.Dataset(
        {
            "tas": (
                ("time", "lat", "lon"),
                tas,
                {"standard_name": "air_temperature", "units": "K", "cell_methods": "time: mean"},
            ),
            "lat_bnds": (("lat", "bnds"), edges(lat)),
            "lon_bnds": (("lon", "bnds"), edges(lon)),
        },
        coords={
            "time": days,
            "lat": ("lat", lat, {"units": "degrees_north", "bounds": "lat_bnds"}),
            "lon": ("lon", lon, {"units": "degrees_east", "bounds": "lon_bnds"}),
        },
        attrs={"Conventions": "CF-1.11", "title": "a made-up model run"},
    )


def write_daily(run: xr.Dataset, store: Path) -> None:
    """Write a chunk, and so a file, for each day; 0.01 K is fine enough for int16."""
    packed = {"dtype": "int16", "scale_factor": 0.01, "add_offset": 273.15, "_FillValue": -32768}
    chunks = (1, run.sizes["lat"], run.sizes["lon"])
    encoding = {"tas": {**packed, "chunks": chunks}, "time": {"chunks": (run.sizes["time"],)}}
    run.to_zarr(store, zarr_format=2, consolidated=True, encoding=encoding)


def area_mean(field: xr.DataArray, weights: xr.DataArray) -> xr.DataArray:
    return field.weighted(weights).mean(["lat", "lon"])


def cost(store: Path, **where: object) -> tuple[int, float]:
    """Files read (or parts of files) for a selection, and the seconds that it takes."""
    chosen = xr.open_dataset(store, engine="hfzarr")[["tas"]].sel(**where)
    requests = chosen.hfzarr.explain()["tas"].requests  # counted, not read
    start = time.perf_counter()
    chosen.load()
    return requests, time.perf_counter() - start


def main(out: str = "climate", years: int = 3) -> dict:
    daily, series = Path(out) / "daily.zarr", Path(out) / "series.zarr"
    if not daily.exists():
        write_daily(model_run(years), daily)

    # Chunks for dask: a year each. One read brings the files of a year, many at once.
    ds = xr.open_dataset(daily, engine="hfzarr", chunks={"time": 365})
    first, last = (ds.time.values[i].strftime("%Y-%m-%d") for i in (0, -1))
    print(f"{dict(ds.tas.sizes)}, {first} to {last}, calendar {ds.time.dt.calendar}")
    print("packed as", ds.tas.encoding["dtype"], "and read as", ds.tas.dtype, ds.tas.units)
    print("bounds are coordinates:", [name for name in ds.coords if name.endswith("bnds")])

    # A climatology: the mean of each month of the year, at every place.
    monthly = ds.tas.groupby("time.month").mean().compute()
    here = monthly.sel(PLACE)
    print(f"at {PLACE}: {here.min():.1f} K in month {int(here.month[here.argmin('month')])},",
          f"{here.max():.1f} K in month {int(here.month[here.argmax('month')])}")  # fmt: skip

    # A regional mean, by labels. Cells shrink towards the poles as the cosine of the latitude;
    # their bounds say the same exactly.
    europe = ds.sel(EUROPE)
    mean = area_mean(europe.tas, np.cos(np.deg2rad(europe.lat))).compute()
    north, south = (np.sin(np.deg2rad(europe.lat_bnds.isel(bnds=end))) for end in (1, 0))
    exact = area_mean(europe.tas, north - south).compute()
    print(f"Europe: {mean.mean():.2f} K; by the cells' bounds {exact.mean():.2f} K")
    for year, value in mean.groupby("time.year").mean().to_series().items():
        print(f"  {year}: {value:.2f} K")

    # Written anew: whole series of small regions in a chunk, many chunks in a file.
    if not series.exists():
        chunk = {"time": -1, "lat": 6, "lon": 6}
        shard = {"time": -1, "lat": 36, "lon": 36}
        done = hfzarr.reshard(daily, series, inner_chunk=chunk, shard=shard, progress=False)
        print(f"{done.plan.files_before} files became {done.files}")
    found = {}
    for what, where in (("one place", PLACE), ("one day", {"time": "2001-07-01"})):
        found[what] = [cost(store, **where) for store in (daily, series)]
        (before, slow), (after, fast) = found[what]
        print(f"{what}: {before} requests, {1000 * slow:.1f} ms before;",
              f"{after}, {1000 * fast:.1f} ms after")  # fmt: skip
    again = xr.open_dataset(series, engine="hfzarr", chunks={})
    xr.testing.assert_identical(again.tas.sel(PLACE), ds.tas.sel(PLACE))

    swing = (monthly.sel(month=7) - monthly.sel(month=1)).to_dataset(name="swing")
    picture = swing.hfzarr.thumbnail()  # a pixel for each cell; north is above
    save_png(resize(picture, 8 * picture.shape[0], 8 * picture.shape[1]), Path(out) / "swing.png")
    print(f"saved {out}/swing.png: July less January")
    return {"monthly": monthly, "mean": mean, "exact": exact, "cost": found}


if __name__ == "__main__":
    options = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    options.add_argument("--out", default="climate", help="folder of the stores and the picture")
    options.add_argument("--years", type=int, default=3, help="how many to make up")
    main(**vars(options.parse_args()))
