"""A repo or a bucket of the Hugging Face Hub: read, and written to."""
