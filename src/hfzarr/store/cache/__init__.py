"""Chunks of remote stores, kept on this machine between runs."""
