"""Names that vulture takes for dead although something outside of our code uses them.

Each line or block names its user. First try to delete the code, then to test it, then list it.
Write ``_.name`` for an attribute, a method or a field. vulture reads this file, nothing runs it.
"""

# Loaded by name from the entry points in pyproject.toml.
Qcow2Driver, ArrayDriver, NfsDriver, S3Driver, SwiftDriver

_.row_factory  # sqlite3 reads it from the connection
_.merge_slashes  # Werkzeug's URL map reads it: object names may hold //

# io.RawIOBase calls these on the request body of simulators/serving.py ...
_.readable, _.readinto, _.readall
# ... and http.server, socketserver and Werkzeug these on its server.
_.protocol_version, _.disable_nagle_algorithm, _.run_wsgi, _.handle_expect_100, _.version_string
_.process_request, _.handle_error

# zipfile asks its file for this, and writes these of a member.
_.seekable, _.create_system, _.external_attr

# Written to JSON by asdict (bench/rows.py).
_.peak_mib

# pytest calls and reads these of our collector and reports.
_._getobj, _.longrepr

# Python's dir() calls it (PEP 562).
__dir__

# conformance/reports/report.html.jinja reads these of a CheckView.
_.interpretation, _.plots

# html.parser calls these on tests/conformance/reports/test_report_page.py's reader of a page.
_.handle_starttag, _.handle_data

# Defects are switched on by these names over HTTP.
agent_timeout, corrupt_first_read, drop_connection_midway, short_body, lost_reply
half_frame, odd_flags, stray_response, bad_version

# Reproducers of failing histories call these by name: conformance/modelbased/reproducer.py writes them.
play_on_pool, play_on_store

# Entry points of the examples' own distributions.
AcmeDriver, ZenithDriver

# paramiko calls these on the server of simulators/faults/ssh.py.
_.get_allowed_auths, _.check_auth_publickey, _.check_channel_request, _.check_channel_exec_request

# tempfile and socketserver look at these: conformance/hosting/template.py, tests/mutants/tls_door.py.
_.tempdir, _.daemon_threads, _.block_on_close

# pytest reads it: tests/kvm/conftest.py.
collect_ignore_glob

# http.server calls these: bench/bench_stores.py, tests/events/test_webhooks.py.
_.do_POST, _.do_PUT, _.do_HEAD, _.do_GET, _.log_message

# uvicorn's server reads it: api/server.py.
_.should_exit

# SQLAlchemy calls it for each transition: core/catalog/outbox.py.
_publish_transition

# pydantic reads it: api/records.py.
_.model_config

# Commands that are found by their modules' names, and what Typer asks a group for: cli/lazy.py.
demo, new_driver, _.list_commands
