# One image for every process of Again; the command says which. The target `simulator` has the stand-in for the gateway
# as well, for demos and tests; `production`, the last one, is built unless another is named.
# python:3.13.15-slim-trixie, the index of all architectures. Raise tag and digest together:
#   docker buildx imagetools inspect python:3.13-slim
FROM python:3.13.15-slim-trixie@sha256:7c61056e61ac89e852de05f3dc6fa51a6dd2181797bceed46aa725dd7cb2cd3b AS python

FROM python AS build
WORKDIR /app
RUN pip install --no-cache-dir uv==0.13.9
COPY pyproject.toml uv.lock README.md ./
RUN uv sync --frozen --no-default-groups --extra listener --no-install-project --python /usr/local/bin/python
COPY schedules schedules
COPY worker worker
COPY migrations migrations
RUN uv sync --frozen --no-default-groups --extra listener --no-editable --python /usr/local/bin/python

FROM build AS build-simulator
COPY simulator simulator
RUN uv sync --frozen --no-default-groups --extra listener --extra simulator --no-editable --reinstall-package again --python /usr/local/bin/python

FROM python AS run
RUN groupadd --system --gid 10001 again && useradd --system --uid 10001 --gid 10001 --no-create-home again
ENV PATH=/app/.venv/bin:$PATH PYTHONUNBUFFERED=1
WORKDIR /app
USER again
CMD ["again", "--help"]

FROM run AS simulator
COPY --from=build-simulator /app/.venv /app/.venv

FROM run AS production
COPY --from=build /app/.venv /app/.venv
