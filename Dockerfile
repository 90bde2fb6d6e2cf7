# TODO(5.1): how your service becomes an image. Delete these lines as you go: a file of comments alone counts as not started.
#
# Wanted: `docker build -t lab .`, then `docker run -p 8000:8000 lab` serves on http://127.0.0.1:8000/health.
#
#   5.1  a slim base of a fixed minor version; the dependencies installed before lab/ is copied, so that a change of
#        code rebuilds in seconds; no cache of pip or uv left behind, nothing that only tests need; not root; a health check
#   5.2  `python -m lab.serve` on 0.0.0.0; who runs the image sets PORT and WEB_CONCURRENCY
#   5.3  the server is process 1, so that SIGTERM reaches it
#
# An image of something else, to show the form:
#
#   FROM python:3.12-slim
#   WORKDIR /srv
#   COPY index.html .
#   USER 1000
#   CMD ["python", "-m", "http.server"]
