"""How well a ranking foretells what users take: hold-outs and metrics."""
