"""What the simulated BMC can be told to do wrong: each switch was seen in the field, or in a library."""

from __future__ import annotations

from dataclasses import dataclass

from ..defects import DefectSet


@dataclass
class BmcDefects(DefectSet):
    """Switches of the BMC simulator.

    Attributes:
        silent: answers nothing, as without power or network.
        freeze_login: answers discovery and the offer of ciphers, and nothing after it.
        freeze_session: logs users in and answers no command.
        ignore_unknown_user: stays silent where it should say "unauthorized name" (pyghmi's server; its
            client then repeats the login for ever).
        answers_sha1: accepts an offer of SHA-256 and goes on with SHA-1 (pyghmi's server, as in
            virtualbmc and fakebmc).
        no_free_session: refuses so many logins for want of resources.
        few_sessions: how many consoles may be logged in at once, 0 for any number; one that does not log
            out keeps its place (most BMCs have four or five, and forget one after a minute).
        lose_power_reply: obeys so many power commands without an answer (a BMC that shares its port with
            the host loses the link with the host's power).
        late_role: lets everybody log in with any role, and refuses what the user may not have afterwards.
        refuse_power: completion code D5h, "not supported in present state", to power commands.
        deaf: says yes to power commands and does nothing.
        says_off: so many readings say OFF while the host runs.
        late: seconds from "yes" until the power changes.
        comes_back: seconds after which a host that was switched off is on again (restore policy, watchdog).
        slow: seconds before each answer in a session.
    """

    silent: bool = False
    freeze_login: bool = False
    freeze_session: bool = False
    ignore_unknown_user: bool = False
    answers_sha1: bool = False
    no_free_session: int = 0
    few_sessions: int = 0
    lose_power_reply: int = 0
    late_role: bool = False
    refuse_power: bool = False
    deaf: bool = False
    says_off: int = 0
    late: float = 0.0
    comes_back: float = 0.0
    slow: float = 0.0
