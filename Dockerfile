# One image for every process of Again; the command says which.
FROM python:3.13-slim AS build
WORKDIR /app
RUN pip install --no-cache-dir uv==0.13.9
COPY pyproject.toml uv.lock README.md ./
RUN uv sync --frozen --no-dev --extra simulator --extra listener --no-install-project --python /usr/local/bin/python
COPY schedules schedules
COPY worker worker
COPY simulator simulator
COPY migrations migrations
RUN uv sync --frozen --no-dev --extra simulator --extra listener --no-editable --python /usr/local/bin/python

FROM python:3.13-slim
RUN useradd --system --uid 10001 --no-create-home again
COPY --from=build /app/.venv /app/.venv
ENV PATH=/app/.venv/bin:$PATH PYTHONUNBUFFERED=1
WORKDIR /app
USER again
CMD ["again", "--help"]
