"""Drivers of secondary storage: NFS (or any directory), S3 and Swift."""
