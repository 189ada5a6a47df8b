"""Files that chance or malice made are read, or refused by name, and never anything else. For longer:

    python -m tests.long.fuzz_files --minutes 60
"""

from __future__ import annotations

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.long.damage import damaged
from tests.long.fuzz_files import read_all


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(seed=st.integers(0, 2**32))
def test_a_damaged_file_is_read_or_refused_by_name(tmp_path_factory, seed):
    name, content = damaged(seed)
    path = tmp_path_factory.mktemp("damaged") / name
    path.write_bytes(content)
    read_all(path)


def test_a_seed_makes_the_same_file_again():
    assert [damaged(seed) for seed in range(50)] == [damaged(seed) for seed in range(50)]
