"""Placement: fair, never too much memory, nobody starves, and everybody knows why he waits."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from pilvi.compute import Gpu, Node
from pilvi.jobs.placement import Grant, Placement
from pilvi.jobs.spec import Resources

TWO = Node("", 2, 20000)
EIGHT = Node("", 8, 32768)
NONE = (Resources(),)


def wish(cpus: float = 0, memory_mib: int = 0, gpus: int = 0, gpu_memory_mib: int = 0, members: int = 1) -> tuple[Resources, ...]:
    return (Resources(cpus, memory_mib, gpus, gpu_memory_mib, "ml.x"),) * members


def started(placement: Placement) -> list[str]:
    return [id for id, _ in placement.start()]


def grant_of(node: Node, wishes: tuple[Resources, ...]) -> Grant:
    placement = Placement([node])
    placement.add("a", wishes)
    return placement.start()[0][1][0]


# -- order ----------------------------------------------------------------------------------------------------------------


def test_first_come_first_served() -> None:
    placement = Placement([TWO])
    for id in "abcde":
        placement.add(id, NONE)
    assert started(placement) == ["a", "b"]
    placement.release("b")
    assert started(placement) == ["c"]
    placement.release("a")
    placement.release("c")
    assert started(placement) == ["d", "e"]
    assert (placement.running, placement.waiting) == (2, 0)


def test_stopped_jobs_leave_the_queue() -> None:
    placement = Placement([TWO])
    for id in "abcde":
        placement.add(id, NONE)
    started(placement)
    assert placement.remove("c")
    assert not placement.remove("c")
    assert not placement.remove("a")
    placement.release("a")
    assert started(placement) == ["d"]


def test_small_jobs_do_not_keep_a_big_one_waiting() -> None:
    placement = Placement([EIGHT])
    small, gang = wish(1, 1024), wish(2, 8192, members=4)
    placement.add("running", small)
    assert started(placement) == ["running"]
    placement.add("gang", gang)
    for number in range(20):
        placement.add(f"small{number}", small)
    assert started(placement) == []
    assert "it needs 8 cores, 7 cores free" in placement.reason("gang")
    placement.release("running")
    assert started(placement) == ["gang"]
    placement.release("gang")
    assert started(placement) == [f"small{number}" for number in range(8)]


def test_small_jobs_use_what_the_first_does_not_need() -> None:
    placement = Placement([EIGHT])
    half, small = wish(4, 16384), wish(1, 1024)
    for id in ("a", "b", "c"):
        placement.add(id, half)
    assert started(placement) == ["a", "b"]
    placement.release("a")
    placement.add("d", small)
    assert started(placement) == ["c"]
    gpu = Placement([Node("", 8, 32768, (Gpu("g", "T", 100),))])
    for id in ("a", "b"):
        gpu.add(id, wish(1, 1024, 1))
    for number in range(9):
        gpu.add(f"cpu{number}", small)
    assert started(gpu) == ["a", *(f"cpu{number}" for number in range(7))]
    assert gpu.reason("b").endswith("8 jobs run on this machine; it needs 1 core, 0 cores free and it needs 1 GPU, 0 free")
    assert gpu.reason("cpu8").startswith("Waiting for a place: 2 jobs are ahead of it; 8 jobs run on this machine")
    gpu.release("cpu0")
    assert started(gpu) == ["cpu7"]
    gpu.release("a")
    assert started(gpu) == ["b"]


def test_reason_is_known_only_while_it_waits() -> None:
    placement = Placement([TWO])
    for id in "abc":
        placement.add(id, wish(2, 8192))
    started(placement)
    assert placement.reason("a") == ""
    assert (
        placement.reason("c")
        == "Waiting for a place: 2 jobs run on this machine; it needs 1 core, 0 cores free and it needs 8.0 GiB of memory, 3.5 GiB free"
    )
    assert placement.first_reason() == placement.reason("c")
    placement.clear()
    assert placement.first_reason() == ""


# -- shares ---------------------------------------------------------------------------------------------------------------


def test_a_small_machine_gives_two_jobs_half_each() -> None:
    grant = grant_of(TWO, wish(4, 16384))
    assert (grant.cpus, grant.memory_mib) == (2, 10000)
    assert grant.notes == ("this machine gives 2 of 4 cores and 9.8 GiB of 16.0 GiB memory of ml.x",)


def test_a_big_machine_gives_the_whole_type() -> None:
    grant = grant_of(Node("", 64, 262144), wish(16, 65536))
    assert (grant.cpus, grant.memory_mib, grant.notes) == (16, 65536, ())


def test_no_wish_gets_a_slot() -> None:
    grant = grant_of(EIGHT, NONE)
    assert (grant.cpus, grant.memory_mib, grant.gpus, grant.notes) == (None, 4096, None, ())


def test_a_single_core_runs_two() -> None:
    placement = Placement([Node("", 1, 2048)])
    for id in "abc":
        placement.add(id, wish(2, 8192))
    assert started(placement) == ["a", "b"]


def test_hosts_of_a_job_share_a_small_machine() -> None:
    placement = Placement([TWO])
    placement.add("a", wish(4, 16384, members=5))
    ((_, grants),) = placement.start()
    assert [grant.memory_mib for grant in grants] == [4000] * 5
    assert {grant.cpus for grant in grants} == {2}
    placement.add("b", NONE)
    assert started(placement) == []


def test_a_job_that_never_fits_is_told() -> None:
    placement = Placement([TWO])
    assert placement.trouble(wish(4, 16384, members=5)) == ""
    assert placement.trouble(wish(4, 16384, members=500)).startswith("CapacityError: 500 instances do not fit on this machine")


# -- GPUs -----------------------------------------------------------------------------------------------------------------

GPUS = Node("", 16, 131072, (Gpu("g0", "H100", 81559), Gpu("g1", "H100", 81559)))


def test_gpus_are_shared_by_memory() -> None:
    placement = Placement([GPUS])
    for number in range(12):
        placement.add(f"{number}", wish(1, 1024, 1, 16384))
    found = [grants[0] for _, grants in placement.start()]
    # Eight cores each would do; four T4s fit into an H100.
    assert [grant.gpus for grant in found] == [("g0",), ("g1",)] * 4
    assert round(found[0].gpu_share, 2) == 0.2
    assert found[0].notes == ("this machine gives 1 of 1 GPU with 16.0 GiB of ml.x: H100, 20% of its memory",)


def test_more_gpus_than_there_are_is_all() -> None:
    grant = grant_of(GPUS, wish(8, 1024, 8, 81920))
    assert grant.gpus == ("g0", "g1")
    assert grant.notes == ("this machine gives 2 of 8 GPUs with 80.0 GiB of ml.x: H100",)


def test_no_gpu_is_the_cpu_and_is_said() -> None:
    grant = grant_of(TWO, wish(2, 8192, 1, 16384))
    assert grant.gpus is None
    assert grant.notes == ("ml.x has 1 GPU with 16.0 GiB; this machine has none, so the program runs on the CPU",)


def test_accelerators_that_are_never_here_are_said() -> None:
    grant = grant_of(TWO, (Resources(2, 8192, label="ml.trn1.2xlarge", extra="1 AWS Trainium"),))
    assert grant.notes == ("ml.trn1.2xlarge has 1 AWS Trainium; this machine has none, so the program runs on the CPU",)


def test_gpus_of_unknown_memory_are_given_whole() -> None:
    placement = Placement([Node("", 8, 65536, (Gpu("g", "T", 0),))])
    for id in "ab":
        placement.add(id, wish(1, 1024, 1, 16384))
    assert started(placement) == ["a"]


# -- several nodes --------------------------------------------------------------------------------------------------------


def test_members_are_spread_over_nodes() -> None:
    placement = Placement([Node("n1", 4, 8192, address="10.0.0.1"), Node("n2", 4, 8192, address="10.0.0.2")])
    placement.add("a", wish(4, 4096, members=2))
    ((_, grants),) = placement.start()
    assert [(grant.node, grant.address) for grant in grants] == [("n1", "10.0.0.1"), ("n2", "10.0.0.2")]


def test_gpu_jobs_go_where_gpus_are() -> None:
    placement = Placement([Node("n1", 16, 65536), Node("n2", 2, 8192, (Gpu("g", "T", 16000),))])
    for id in "ab":
        placement.add(id, wish(1, 1024, 1, 16384))
    ((_, grants),) = placement.start()
    assert grants[0].node == "n2"
    assert "1 GPU" in placement.reason("b")


def test_nodes_come_and_go() -> None:
    placement = Placement([Node("n1", 1, 4096)])
    for id in "abcd":
        placement.add(id, NONE)
    assert started(placement) == ["a", "b"]
    placement.see([Node("n1", 1, 4096), Node("n2", 1, 4096)])
    assert started(placement) == ["c", "d"]
    placement.see([Node("n2", 1, 4096)])
    placement.release("a")
    placement.release("c")
    placement.add("e", NONE)
    assert started(placement) == ["e"]


def test_an_engine_with_its_own_queue_gets_everything_at_once() -> None:
    placement = Placement([])
    placement.add("a", wish(96, 1 << 20, 8, 81920, members=16))
    placement.add("b", NONE)
    (_, grants), (_, others) = placement.start()
    assert len(grants) == 16
    assert (grants[0].cpus, grants[0].memory_mib, len(grants[0].gpus or ())) == (96, 1 << 20, 8)
    assert others[0] == Grant("", None, None, None)


def test_an_engine_with_its_own_queue_gets_so_many_at_a_time() -> None:
    placement = Placement([])
    for number in range(70):
        placement.add(f"{number}", NONE)
    assert len(started(placement)) == 64
    assert placement.reason("69").endswith(
        "5 jobs are ahead of it; 64 jobs are with the cluster, which is all that is given to it at a time"
    )
    placement.release("3")
    assert started(placement) == ["64"]


# -- always ---------------------------------------------------------------------------------------------------------------

WISHES = st.builds(
    wish,
    st.sampled_from([0, 0.5, 1, 2, 4, 96]),
    st.sampled_from([0, 256, 4096, 16384, 1 << 20]),
    st.sampled_from([0, 0, 1, 4]),
    st.sampled_from([0, 16384, 81920]),
    st.sampled_from([1, 1, 1, 2, 5]),
)
NODES = st.sampled_from(
    [
        [TWO],
        [EIGHT],
        [GPUS],
        [Node("", 1, 3000)],
        [Node("a", 4, 8192), Node("b", 4, 8192)],
        [Node("a", 4, 8192), Node("b", 2, 4096, (Gpu("g", "T", 16000),))],
    ]
)


@settings(max_examples=150, deadline=None)
@given(NODES, st.lists(st.tuples(WISHES, st.integers(0, 3)), max_size=40), st.randoms(use_true_random=False))
def test_nothing_is_promised_twice_and_everybody_gets_a_turn(nodes: list[Node], jobs: list, random: object) -> None:
    placement = Placement(nodes)
    order, running = [], {}
    memory = {node.name: 0 for node in nodes}
    room = {node.name: node.memory_mib for node in nodes}

    def turn() -> None:
        for id, grants in placement.start():
            order.append(id)
            running[id] = grants
            for grant in grants:
                memory[grant.node] += grant.memory_mib
        assert all(memory[name] <= room[name] for name in memory)

    def end(id: str) -> None:
        for grant in running.pop(id):
            memory[grant.node] -= grant.memory_mib
        placement.release(id)

    for number, (wishes, ends) in enumerate(jobs):
        if not placement.trouble(wishes):
            placement.add(str(number), wishes)
        turn()
        for _ in range(min(ends, len(running))):
            end(random.choice(sorted(running)))
        turn()
    while running:
        end(random.choice(sorted(running)))
        turn()
    assert placement.waiting == 0
    assert placement._rooms == placement._all_empty()


@settings(max_examples=50, deadline=None)
@given(NODES, WISHES, st.lists(WISHES, min_size=1, max_size=10))
def test_the_first_starts_when_what_ran_before_it_has_ended(nodes: list[Node], big: tuple, others: list) -> None:
    placement = Placement(nodes)
    for number in range(12):
        placement.add(f"before{number}", wish(1, 1024))
    before = started(placement)
    for number in range(placement.waiting):
        placement.remove(f"before{len(before) + number}")
    if placement.trouble(big):
        return
    placement.add("big", big)
    for number in range(100):
        if not placement.trouble(others[number % len(others)]):
            placement.add(f"later{number}", others[number % len(others)])
    found = started(placement)
    for id in before:
        placement.release(id)
        found += started(placement)
    # Those that passed it still run.
    assert "big" in found
