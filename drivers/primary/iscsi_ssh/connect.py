"""Connecting to the array: see that it is ours, then log in, all within the call's deadline."""

from __future__ import annotations

import base64
import binascii
import socket
import threading
from contextlib import suppress
from typing import TYPE_CHECKING

from ....core.spi import Call, InvalidArgument, Outcome, Unauthenticated, Unavailable
from .options import IscsiSshOptions, address_of

if TYPE_CHECKING:
    import paramiko

_KEEP_ALIVE = 15  # seconds
_LONGEST_CONNECT = 20.0  # seconds
_LONGEST_CLOSE = 5.0  # seconds, for a thread that reads from a socket that is shut


def connected(options: IscsiSshOptions, call: Call) -> paramiko.Transport:
    """Connect, see that it is our array, and log in, in this order."""
    import paramiko

    host_key, key = _host_key(options), _private_key(options)
    transport = _transport(options, call)
    timer = threading.Timer(call.remaining(_LONGEST_CONNECT), _shut, [transport])
    timer.daemon = True
    timer.start()
    try:
        _negotiate(transport, host_key)
        transport.auth_publickey(options.user, key)
    except paramiko.AuthenticationException as error:
        close(transport)
        call.check()
        raise Unauthenticated(f"the array does not let {options.user!r} in with our key") from error
    except (paramiko.SSHException, EOFError, OSError) as error:
        close(transport)
        call.check()
        raise Unavailable(
            "the array does not complete the SSH connection", outcome=Outcome.NOT_APPLIED
        ) from error
    except BaseException:
        close(transport)
        raise
    finally:
        timer.cancel()
        timer.join()
    transport.set_keepalive(_KEEP_ALIVE)
    return transport


def _transport(options: IscsiSshOptions, call: Call) -> paramiko.Transport:
    import paramiko

    address = address_of(options)
    try:
        sock = socket.create_connection(
            (address.host, address.port), timeout=call.remaining(_LONGEST_CONNECT)
        )
    except OSError as error:
        call.check()
        raise Unavailable("cannot connect to the array's sshd", outcome=Outcome.NOT_APPLIED) from error
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    transport = paramiko.Transport(sock)
    transport.daemon = True
    return transport


def _negotiate(transport: paramiko.Transport, host_key: paramiko.PKey) -> None:
    # Only this kind of key: a host with several would choose another one, and be taken for a stranger.
    transport.get_security_options().key_types = _signatures(host_key)
    transport.start_client()
    if transport.get_remote_server_key().asbytes() != host_key.asbytes():
        raise Unauthenticated("the array shows another host key than the options say: is it another machine?")


def _signatures(key: paramiko.PKey) -> list[str]:
    return ["rsa-sha2-512", "rsa-sha2-256"] if key.get_name() == "ssh-rsa" else [key.get_name()]


def _host_key(options: IscsiSshOptions) -> paramiko.PKey:
    import paramiko

    kind, text = options.known_host.split()
    try:
        return paramiko.PKey.from_type_string(kind, base64.b64decode(text, validate=True))
    except (paramiko.SSHException, binascii.Error, ValueError, IndexError) as error:
        raise InvalidArgument("option 'known_host' is no public key") from error


def _private_key(options: IscsiSshOptions) -> paramiko.PKey:
    import paramiko

    passphrase = options.passphrase.reveal().encode() if options.passphrase else None
    try:
        return paramiko.PKey.from_path(str(options.identity_file), passphrase)  # type: ignore[arg-type] # the stubs say str, the code wants bytes
    except FileNotFoundError as error:
        raise InvalidArgument(f"option 'identity_file': there is no file {options.identity_file}") from error
    except (paramiko.SSHException, ValueError, TypeError, OSError) as error:
        # The cause is left out of the message: it may repeat what was in the file.
        raise InvalidArgument("option 'identity_file' is no private key, or of another passphrase") from error


def close(transport: paramiko.Transport) -> None:
    """Close at once, also when the other end stands still: nobody waits for what it had to say."""
    _shut(transport)
    transport.close()
    if transport.is_alive():
        transport.join(_LONGEST_CLOSE)


def _shut(transport: paramiko.Transport) -> None:
    """End every wait on the connection."""
    with suppress(OSError):
        transport.sock.shutdown(socket.SHUT_RDWR)
