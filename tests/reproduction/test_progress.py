"""The progress bar of reproduction.data.progress: bytes and things, on a terminal only, from many threads."""

import io
from concurrent.futures import ThreadPoolExecutor

from reproduction.data.progress import Progress


def test_it_shows_bytes_and_things():
    drawn = io.StringIO()
    with Progress(drawn, shown=True) as progress:
        progress.stage("masks", 2_000_000, 4)
        progress.bytes(500_000)
        progress.done()
        assert progress.text == "1 of 4 masks"
        progress.bytes(1_500_000)
        progress.done(3)
        progress.stage("CTs", 6_000_000, 2)
        assert progress.text == "0 of 2 CTs" and progress._bar.n == 2_000_000 and progress._bar.total == 8_000_000
        progress.bytes(6_000_000)
        progress.done(2)
    text = drawn.getvalue()
    for shown in ("1 of 4 masks", "4 of 4 masks", "0 of 2 CTs", "2 of 2 CTs", "500k/2.00M", "8.00M/8.00M"):
        assert shown in text, text


def test_a_log_gets_no_bar():
    log = io.StringIO()
    with Progress(log) as progress:
        progress.stage("masks", 10, 1)
        progress.bytes(10)
        progress.done()
    assert log.getvalue() == "" and progress.text == "1 of 1 masks"


def test_threads_lose_no_byte():
    with Progress(io.StringIO(), shown=True) as progress, ThreadPoolExecutor(8) as pool:
        progress.stage("masks", 3 * 4000, 4000)
        for _ in range(4000):
            pool.submit(progress.bytes, 3)
            pool.submit(progress.done)
        pool.shutdown()
        assert progress._bar.n == 12_000 and progress.text == "4000 of 4000 masks"
