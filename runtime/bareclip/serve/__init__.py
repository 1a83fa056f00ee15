"""bareclip serve: a model behind HTTP.

Two halves. ``stage.py`` and ``engine.py`` know of no HTTP: work goes through stages, each a
queue with threads of its own, and is refused, put off, dropped or halved there. The rest turns
requests into that work: ``inputs.py`` reads what they hold, ``routes.py`` answers them,
``security.py`` stands before all of it, ``server.py`` runs it and ends it.

Starlette rather than FastAPI: 2.3 MB rather than 11. What FastAPI would add is checking by
declared types, whose error texts quote payloads, and a page of documentation that is fetched from
elsewhere; both are written by hand here in either case.
"""
