"""`bollard store …` on the real command line."""

from __future__ import annotations

import swiftclient

from bollard.simulators.swift import SwiftSimulator


def test_stores_of_the_configuration(bollard):
    """`store list` names them with their drivers."""
    assert bollard("store", "list", "--json").json == [{"store": "nightly", "driver": "nfs"}]


def test_probe_of_a_driver_without_a_probe(bollard):
    """The three traits are there, as the driver's word; people read sizes in units."""
    found = {row["name"]: row for row in bollard("store", "probe", "--json").json}
    assert found["conditional_put"] == {
        "name": "conditional_put",
        "value": True,
        "found_by": "documented",
        "how": "the driver says so",
    }
    assert found["max_object_size"]["value"] == 16 * 1024**4
    shown = bollard("store", "probe", "nightly").out
    assert "16 TiB" in shown
    assert "documented" in shown


def test_probe_of_a_store_over_http(bollard, home):
    """A default is not needed: the store is named, asked and tried out."""
    with SwiftSimulator(home / "swift", users={"test:tester": "k"}) as swift:
        connection = swiftclient.Connection(authurl=swift.auth_url, user="test:tester", key="k")
        connection.put_container("archive")
        connection.close()
        with (home / "bollard.toml").open("a") as config:
            options = f'url = "{swift.auth_url}", user_name = "test:tester", key = "k", container = "archive"'
            config.write(f'\n[stores.far]\ndriver = "swift"\noptions = {{ {options} }}\n')
        found = {row["name"]: row for row in bollard("store", "probe", "far", "--json").json}
    assert (found["conditional_put"]["value"], found["conditional_put"]["found_by"]) == (True, "probed")
    assert found["listing_order"]["value"] == "utf-8"


def test_probe_of_an_unknown_store(bollard):
    """The exit code is that of a bad name, and nothing is opened."""
    assert bollard("store", "probe", "nowhere").code == 4
