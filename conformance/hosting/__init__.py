"""The driver in a process of its own: same SPI, killable at any moment.

    suite                                              driver host
    hosted_class ─ Exchange ─ Connection ─ socketpair ─ Host ─ Lane (thread) ─ the vendor's driver
      client.py    exchange   connection   frames,wire  server   lanes             │
    DriverHost ── SIGKILL, /proc/<pid>                  crashes: counts ───────────┘
      process.py    resources.py                           ▲ fork
    launch.py ───────────────────────── socketpair ─── Template: the class, imported once (template.py)

Nothing is imported here: the host loads this package, too, and pays for each module when it starts.
"""
