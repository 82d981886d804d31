"""Many visitors at once: each has a connection and sends a photo once the last one is answered."""

from __future__ import annotations

import statistics
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

from gradio_client import Client, handle_file

from benchmarks.photo import photo_of
from benchmarks.server import serving
from benchmarks.timing import Row

CROWDS = (1, 4, 16, 64)
PHOTOS = 64  # least number for all visitors of a crowd


def rows(folder: Path) -> list[Row]:
    """Measure photos per second, the time of each, and the difference between visitors."""
    file = folder / "visitor.jpg"
    file.write_bytes(photo_of(0.5))
    found = []
    throughput: dict[int, float] = {}
    with serving() as server:
        for crowd in CROWDS:
            each = max(2, PHOTOS // crowd)
            clients = [Client(server.address, verbose=False, download_files=str(folder)) for _ in range(crowd)]
            gate = Barrier(crowd + 1)

            def visit(client: Client, gate: Barrier = gate, each: int = each) -> list[float]:
                gate.wait()
                waits = []
                for _ in range(each):
                    start = time.perf_counter()
                    client.predict(handle_file(file), "ftm", "parts", 0.5, api_name="/segment")
                    waits.append(time.perf_counter() - start)
                return waits

            with ThreadPoolExecutor(crowd) as pool:
                visits = [pool.submit(visit, client) for client in clients]
                gate.wait()
                start = time.perf_counter()
                waits = [visitor.result() for visitor in visits]
                taken = time.perf_counter() - start
            throughput[crowd] = crowd * each / taken
            every = sorted(wait for visitor in waits for wait in visitor)
            middle, late = statistics.median(every), every[int(0.95 * (len(every) - 1))]
            what = f"{crowd} visitor{'s' if crowd > 1 else ''}"
            found.append(
                Row(
                    f"{what}: photos per second; median and 95th percentile of the wait",
                    f"{throughput[crowd]:.1f}; {middle:.2f} s, {late:.2f} s",
                )
            )
            if crowd == CROWDS[-1]:
                sums = sorted(sum(visitor) for visitor in waits)
                found.append(Row.at_most(f"{what}: longest total wait relative to the shortest", sums[-1] / sums[0], 2))
                found.append(Row(f"{what}: memory", f"{server.memory()[0]:.0f} MB"))
    best = max(throughput.values())
    found.append(
        Row.at_least(
            f"photos per second with {CROWDS[-1]} visitors, relative to the best",
            throughput[CROWDS[-1]] / best,
            0.9,
            "{:.0%}",
        )
    )
    return found
