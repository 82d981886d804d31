"""Many photos on many machines: `python -m hierseg archive`. The one part that imports ray and pyarrow.

A source's photos are put in order once, in a plan that is cut into shards. Each shard becomes one Parquet file, which
appears whole or not at all; a shard without its file is yet to be done. That is all a run needs to know to go on.
"""
