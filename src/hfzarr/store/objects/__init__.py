"""Buckets and web servers, read by obstore."""
