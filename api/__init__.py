"""The HTTP/JSON API: commands, jobs, lists, events; `bollard api serve` runs it. See docs/api.md.

    request ─> request id ─> size ─> token and scope ─> route ─> Orders (a job) or a page of the catalog
                                                                   │
                                       Worker, in this process or another's ─> Executor ─> drivers

Needs the extra `bollard[api]`: FastAPI, pydantic and uvicorn are imported by nobody else.
"""
