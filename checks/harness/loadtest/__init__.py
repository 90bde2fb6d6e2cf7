"""Locust with the learner's locustfile, against targets of known capacity."""
