"""An agent and a management server over TLS: order, bounds, and what a network does to frames."""

from __future__ import annotations

import json
import socket
import ssl
from collections.abc import Iterator
from contextlib import ExitStack, suppress

import pytest

from agent_rig import FREEZE, Doing, RunningAgent, details, order, running_agent, tls_of
from bollard.core.agent import TlsFiles, client_context
from bollard.core.agent.door import STRANGERS
from bollard.core.spi import InvalidArgument
from bollard.simulators.management import Disconnected, ManagementSimulator
from bollard.simulators.management.frames import packed


@pytest.fixture
def management(tmp_path) -> Iterator[ManagementSimulator]:
    """A management server."""
    with ManagementSimulator(tmp_path) as serving:
        yield serving


@pytest.fixture
def doing() -> Iterator[Doing]:
    """What carries commands out; nothing that it holds outlives the test."""
    made = Doing()
    yield made
    made.let_go()


@pytest.fixture
def agent(management, doing) -> Iterator[RunningAgent]:
    """An agent that is connected."""
    with running_agent(management, doing) as running:
        yield running
        doing.let_go()


def test_a_request_is_answered(management, agent):
    """Each command of a request has its answer, in their order."""
    assert details(management.ask([order(1), order(2)])) == ["did 1", "did 2"]
    assert management.count("stray") == management.count("bad frame") == 0


def test_an_orchestrator_may_connect(management, doing):
    """An agent that listens answers as one that has connected does."""
    with running_agent(management, doing, listen=True):
        assert details(management.ask([order(1)])) == ["did 1"]
    assert management.count("startup") == 0


def test_big_frames_are_compressed_both_ways(management, agent):
    """A request and an answer of many commands arrive whole."""
    assert details(management.ask([order(n) for n in range(100, 500)])) == [
        f"did {n}" for n in range(100, 500)
    ]


def test_stop_on_error(management, agent, doing):
    """Behind a command that failed the others are not begun, if the request says so; each has an answer."""
    told = details(management.ask([order(1), order(13), order(3), order(4)], stop_on_error=True))
    assert told[:2] == ["did 1", "did 13"]
    assert all("not begun" in one for one in told[2:])
    assert doing.begun == [1, 13]
    assert details(management.ask([order(13), order(5)])) == ["did 13", "did 5"]


def test_in_sequence_waits_for_its_turn(management, agent, doing):
    """Requests in sequence run one by one in their order; others, and pings, go past them."""
    doing.hold(1)
    first = management.begin([order(1)], in_sequence=True)
    doing.wait_for(1)
    later = [management.begin([order(n)], in_sequence=True) for n in (2, 3, 4)]
    assert details(management.ask([order(5)])) == ["did 5"]
    assert next(iter(management.ask([{"com.cloud.agent.api.PingCommand": {}}])[0])).endswith("PingAnswer")
    assert doing.ended == [5]
    doing.let_go(1)
    for asked in (first, *later):
        asked.result(30)
    assert doing.ended == [5, 1, 2, 3, 4]


def test_commands_run_side_by_side_up_to_a_bound(management, doing):
    """So many run at a time; so many more wait; what comes beyond that is refused as busy, and not begun."""
    doing.hold(*range(1, 5))
    with running_agent(management, doing, threads=2, waiting=2):
        asked = [management.begin([order(n)]) for n in range(1, 5)]
        doing.wait_for(2)
        assert "busy (not_applied)" in details(management.ask([order(9)]))[0]
        doing.let_go()
        assert sorted(details([one for wait in asked for one in wait.result(30)])) == [
            f"did {n}" for n in range(1, 5)
        ]
    assert doing.most == 2
    assert 9 not in doing.begun


def test_a_thaw_waits_for_nobody(management, doing):
    """With all threads busy a guest is thawed all the same."""
    doing.hold(1, 2)
    with running_agent(management, doing, threads=2, waiting=4):
        asked = [management.begin([order(n)]) for n in (1, 2)]
        doing.wait_for(2)
        thaw = {FREEZE: {"vmName": "i-2-12-VM", "option": "thawed", "wait": 7}}
        assert details(management.ask([thaw])) == ["thawed"]
        doing.let_go()
        for one in asked:
            one.result(30)


def test_a_request_that_comes_twice_is_done_once(management, agent, doing):
    """A frame that the network doubled has one deed, while it runs and afterwards."""
    management.defects.twice = 2
    doing.hold(1)
    asked = management.begin([order(1)])
    doing.wait_for(1)
    assert details(management.ask([order(2)])) == ["did 2"]
    doing.let_go(1)
    assert details(asked.result(30)) == ["did 1"]
    management._sequence -= 1
    assert details(management.ask([order(2)])) == ["did 2"]
    assert doing.begun == [1, 2]


def test_the_same_number_with_other_bytes_is_another_request(management, agent, doing):
    """A management server that starts to count anew is not given an old answer."""
    assert details(management.ask([order(1)])) == ["did 1"]
    management._sequence = 0
    assert details(management.ask([order(2)])) == ["did 2"]


@pytest.mark.parametrize("defect", ["late", "odd_flags", "stray_response", "bomb"])
def test_what_a_connection_outlives(management, agent, doing, defect):
    """Requests out of order, unknown flags, unasked responses, a gzip bomb: the others are answered."""
    setattr(management.defects, defect, 1)
    first = management.begin([order(1)])
    management.wait_for_agent()
    if defect != "late":
        assert details(first.result(30)) == ["did 1"]
    assert details(management.ask([order(2)])) == ["did 2"]
    assert details(first.result(30)) == ["did 1"]
    assert management.count("startup") == 1


@pytest.mark.parametrize("defect", ["half_frame", "flood", "bad_version", "cut"])
def test_what_ends_a_connection(management, agent, doing, defect):
    """Half a frame, an absurd length, a strange version: the agent hangs up, comes again, and answers."""
    setattr(management.defects, defect, 1)
    with pytest.raises(Disconnected):
        management.ask([order(1)])
    management.wait_for("startup", times=2)
    assert details(management.ask([order(2)])) == ["did 2"]


def test_an_answer_whose_connection_broke_is_not_sent_to_another(management, agent, doing):
    """A command goes on to its end when its connection breaks; nobody else gets its answer."""
    doing.hold(1)
    asked = management.begin([order(1)])
    doing.wait_for(1)
    management.hang_up()
    with pytest.raises(Disconnected):
        asked.result(30)
    management.wait_for("end")
    doing.let_go(1)
    management.wait_for("startup", times=2)
    assert details(management.ask([order(2)])) == ["did 2"]
    assert management.count("stray") == 0
    assert 1 in doing.ended


def test_pings_are_sent_and_must_be_answered(tmp_path, doing):
    """An agent pings as often as it is told; without answers it takes the server for dead, and comes back."""
    with (
        ManagementSimulator(tmp_path, ping_interval=1) as management,
        running_agent(management, doing, moving=1.0),
    ):
        management.wait_for("ping")
        management.defects.no_ping_answers = True
        management.wait_for("startup", times=2)


def test_a_refused_agent_tries_again(tmp_path, doing):
    """An agent that is refused at startup comes again, until it is taken."""
    with ManagementSimulator(tmp_path) as management:
        management.defects.refuses = True
        with running_agent(management, doing):
            management.wait_for("startup", times=3)
            management.defects.refuses = False
            seen = management.count("startup")
            management.wait_for("startup", times=seen + 1)
            assert details(management.ask([order(1)])) == ["did 1"]


def test_stopping_finishes_what_was_begun(management, doing):
    """A stopping agent says so, refuses new commands, answers those that it has, and ends."""
    doing.hold(1)
    with running_agent(management, doing) as agent:
        asked = management.begin([order(1)])
        doing.wait_for(1)
        agent.begin_stop()
        management.wait_for("shutdown")
        assert "stopping" in details(management.ask([order(2)]))[0]
        doing.let_go(1)
        assert details(asked.result(30)) == ["did 1"]
        agent.join()


def test_stopping_cancels_what_does_not_end(management, doing):
    """When the grace is over what still runs is cancelled; its answer says so."""
    doing.hold(1)
    with running_agent(management, doing, grace=0.05) as agent:
        asked = management.begin([order(1)])
        doing.wait_for(1)
        agent.begin_stop()
        assert "cancelled" in details(asked.result(30))[0]
        agent.join()


@pytest.mark.parametrize(
    ("body", "told"),
    [
        (b"[]", []),
        (b"{", ["invalid_argument"]),
        (b'{"wait": 1}', ["invalid_argument"]),
        (b"[" * 5000, ["invalid_argument"]),
        (b'[{"com.cloud.agent.api.GetHostStatsCommand": {}}]', ["Unsupported command issued"]),
        (b'[{"com.cloud.agent.api.Answer": {}}]', ["is no command"]),
        (b'[{"org.apache.cloudstack.storage.command.DeleteCommand": {"wait": "soon"}}]', ["wait"]),
    ],
)
def test_bodies_that_are_no_commands(management, agent, doing, body, told):
    """What cannot be executed is answered with the reason, and begins nothing."""
    answers = details(management.begin_body(body).result(30))
    assert len(answers) == len(told)
    assert all(wanted in answer for wanted, answer in zip(told, answers, strict=True))
    assert doing.begun == []


def test_an_expired_certificate_is_refused(tmp_path):
    """An agent does not talk to a server whose certificate has expired."""
    with ManagementSimulator(tmp_path, expired=True) as management:
        context = client_context(tls_of(management))
        with (
            socket.create_connection(("127.0.0.1", management.port), timeout=10) as raw,
            pytest.raises(ssl.SSLCertVerificationError, match="expired"),
        ):
            context.wrap_socket(raw, server_hostname="127.0.0.1")


def test_who_shows_no_certificate_is_refused(management, doing):
    """A listening agent takes nothing from a peer without a certificate of the authority."""
    with running_agent(management, doing, listen=True) as agent:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.load_verify_locations(management.agent_files.authority)
        with (
            socket.create_connection(agent.addresses[0], timeout=10) as raw,
            context.wrap_socket(raw, server_hostname="127.0.0.1") as tls,
            suppress(ssl.SSLError, ConnectionError),
        ):
            # With TLS 1.3 the client learns only now that it was refused.
            tls.sendall(packed(json.dumps([order(1)]).encode(), flags=1, sequence=1, management=1, agent=1))
            assert tls.recv(1) == b""
        assert doing.begun == []


def test_tls_below_1_2_is_refused(management):
    """Neither side accepts an older protocol."""
    assert client_context(tls_of(management)).minimum_version is ssl.TLSVersion.TLSv1_2


def test_files_that_are_no_certificates(tmp_path):
    """Files that cannot be used are named, and no password is asked for at the terminal."""
    wrong = tmp_path / "wrong.pem"
    wrong.write_text("nothing")
    with pytest.raises(InvalidArgument, match="wrong"):
        client_context(TlsFiles(certificate=wrong, key=wrong, authority=wrong))


def test_strangers_make_room_for_an_orchestrator(management, doing):
    """However many connect and never shake hands, so many may wait, and an orchestrator comes in."""
    with ExitStack() as stack:
        running = stack.enter_context(running_agent(management, doing, listen=True, moving=1000.0))
        management.hang_up()
        strangers = [
            stack.enter_context(socket.create_connection(running.addresses[0], timeout=30))
            for _ in range(STRANGERS + 3)
        ]
        for turned_away in strangers[:3]:
            assert turned_away.recv(1) == b""
        management.connect(*running.addresses[0])
        assert details(management.ask([order(1)])) == ["did 1"]


def test_a_bug_is_answered_as_well(management, caplog):
    """Whatever becomes of a request, its orchestrator is told, and the log says no more than the class."""

    def raises(_command, _call):
        raise RuntimeError("s3cr3t")

    with running_agent(management, raises):
        [told] = details(management.ask([order(1)]))
    assert told.startswith("internal (unknown): ")
    assert "RuntimeError" in caplog.text
    assert "s3cr3t" not in caplog.text + told
