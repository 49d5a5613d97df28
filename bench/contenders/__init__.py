"""Who is measured. Each contender is a module whose ``serve(url)`` runs in a process of its own and answers rounds (see ``worker``)."""
