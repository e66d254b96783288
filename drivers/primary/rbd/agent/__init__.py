"""What speaks to Ceph: a child process under the system's Python, which has Debian's librados bindings.

    driver ── socket ──> main.py     a line of JSON there and back
                           │
         ┌────────────┬────┴──────┐
     volumes.py  snapshots.py  access.py
         └────────────┴────┬──────┘
       images.py   records.py   locks.py   fencing.py
                           │
                       cluster.py ── librados, librbd ──> monitors, OSDs

A call into librbd can wait for ever (a lock whose owner is frozen, an OSD that is gone), and a thread in
C cannot be stopped; a process can. The bindings are built for one Python only, and that is the system's.
"""
