"""OME-Zarr metadata, 0.1 to 0.6, as plain values.

Sources of the rules: the OME-NGFF specifications 0.1 to 0.5, the 0.6 release candidates (RFC-5),
and their JSON schemas. Rules are cited in findings as ``OME-Zarr <version>, <section>``.
"""
