"""Segment many photos on many machines: `python -m hierseg archive`. Only this package imports ray and pyarrow.

A plan lists a source's photos once, in a fixed order, and divides them into shards. Each shard becomes one Parquet
file, written atomically. A shard without a file is still to be done; a run needs nothing else to resume.
"""
