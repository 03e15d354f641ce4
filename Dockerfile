# Two stages: the first installs the locked dependencies and recserver into /opt/venv, the second holds only that.
FROM python:3.13-slim AS build

RUN python -m pip install --no-cache-dir uv

ENV UV_PROJECT_ENVIRONMENT=/opt/venv UV_COMPILE_BYTECODE=1 UV_LINK_MODE=copy UV_PYTHON_DOWNLOADS=never
WORKDIR /src

# The dependencies alone first: this layer is made anew only when the lock changes.
COPY pyproject.toml uv.lock ./
RUN uv sync --locked --no-dev --no-install-project --extra postgres --extra mysql

COPY README.md LICENSE ./
COPY src ./src
RUN uv sync --locked --no-dev --no-editable --extra postgres --extra mysql


FROM python:3.13-slim

# /tmp is all that the root file system needs to have writable: run with --read-only --tmpfs /tmp.
ENV PATH=/opt/venv/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 JOBLIB_TEMP_FOLDER=/tmp \
    RECSERVER_HOST=0.0.0.0 RECSERVER_PORT=9999 RECSERVER_DATA=/data

RUN useradd --uid 10001 --user-group --no-create-home --shell /usr/sbin/nologin recserver \
    && install --directory --owner=10001 --group=10001 /data
COPY --from=build /opt/venv /opt/venv

USER 10001:10001
VOLUME /data
EXPOSE 9999

HEALTHCHECK --interval=15s --timeout=3s --start-period=20s \
    CMD ["python", "-c", "import os, urllib.request as u; u.urlopen(f\"http://127.0.0.1:{os.environ['RECSERVER_PORT']}/health\")"]

# Listening on all addresses needs a key: docker run -e RECSERVER_API_KEY=... -p 9999:9999 -v recserver:/data recserver
ENTRYPOINT ["recserver"]
CMD ["serve"]
