# syntax=docker/dockerfile:1

# Python's minor version and Debian's release are fixed; a rebuild brings their security patches.
# For a build that never changes, give a digest: --build-arg PYTHON_IMAGE=python@sha256:…
ARG PYTHON_IMAGE=python:3.13-slim-bookworm

# --- packages: what pip makes, without leaving pip's traces in the image that runs -------------
FROM ${PYTHON_IMAGE} AS packages

COPY requirements.lock /tmp/requirements.lock
# Wheels only, so no compiler is needed; pyvips has none on offer but is plain Python, with libvips
# from pyvips-binary.
RUN python -m venv /opt/venv \
    && /opt/venv/bin/pip install --no-cache-dir --no-deps --only-binary :all: --no-binary pyvips \
        --require-hashes --requirement /tmp/requirements.lock \
    && /opt/venv/bin/pip check \
    && /opt/venv/bin/pip uninstall --yes pip

# --- the image that runs ----------------------------------------------------------------------
FROM ${PYTHON_IMAGE}

# Fonts decide what pages look like: Latin, Arabic, Hindi, Chinese, Japanese, Korean and emoji. libatomic1 is for
# Playwright's driver, which nothing says that it needs.
RUN apt-get update \
    && apt-get install --yes --no-install-recommends \
        chromium-headless-shell \
        fonts-liberation \
        fonts-noto-cjk \
        fonts-noto-color-emoji \
        fonts-noto-core \
        libatomic1 \
        tini \
    && rm -rf /var/lib/apt/lists/*

RUN useradd --system --uid 10001 --user-group --create-home --home-dir /home/thumbnailer thumbnailer \
    && install --directory --owner thumbnailer --group thumbnailer /data /data/cache /data/media

COPY --from=packages /opt/venv /opt/venv

WORKDIR /app
COPY app.py config.py gunicorn.conf.py worker.py ./
COPY settings ./settings
COPY wiring ./wiring
COPY blueprints ./blueprints
COPY thumbnailer ./thumbnailer

ENV PATH=/opt/venv/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    APP_ENV=production \
    CACHE_DIR=/data/cache \
    MEDIA_DIR=/data/media \
    DATABASE_URL=sqlite:////data/thumbnailer.sqlite3
# Compiled once here, because the running user may not write beside the code. Python's own library comes without
# its compiled form in the base image, and would be compiled at each start and by each health check.
RUN PYTHONDONTWRITEBYTECODE='' python -m compileall -q \
        -x '^/usr/local/.*/(site-packages|ensurepip|idlelib)/' /app /opt/venv/lib /usr/local/lib

# A number, so that a cluster can see that it is not root.
USER 10001:10001
VOLUME /data
EXPOSE 8000

# /health touches nothing but the process itself; a busy browser must not look like a dead service.
HEALTHCHECK --interval=15s --timeout=5s --start-period=20s --retries=3 \
    CMD ["python", "-c", "import os, urllib.request; urllib.request.urlopen('http://127.0.0.1:' + os.environ.get('PORT', '8000') + '/health', timeout=4)"]

# gunicorn finishes what is under way; its graceful timeout is UPSTREAM_TIMEOUT plus 15 seconds.
STOPSIGNAL SIGTERM
# Reaps the processes that Chromium leaves behind; not every platform has somebody who does.
ENTRYPOINT ["tini", "--"]
CMD ["gunicorn", "app:create_app()"]
