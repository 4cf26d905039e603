# Fills the volumes of the models: docker build -f services/models.Dockerfile .
FROM python:3.11-slim-bookworm
LABEL org.opencontainers.image.title="artmancer-models" \
      org.opencontainers.image.description="Fetches the weights of ArtMancer's models and checks every byte of them" \
      org.opencontainers.image.licenses="MIT" \
      org.opencontainers.image.base.name="docker.io/library/python:3.11-slim-bookworm"
COPY services/models.lock /tmp/
RUN --mount=type=cache,target=/root/.cache/pip \
    pip install --no-compile --require-hashes --requirement /tmp/models.lock
# A new volume takes over the owner of the folder that it is mounted on.
RUN ["install", "--directory", "--owner=10001", "--group=10001", "/models", "/models/u2netp", "/models/fastsam", "/models/birefnet", "/models/lama", "/models/qwen"]
COPY shared /app/shared
COPY services/__init__.py /app/services/
COPY services/models /app/services/models
WORKDIR /app
USER 10001:10001
ENV HOME=/tmp \
    MODEL_DIR=/models \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1
ENTRYPOINT ["python", "-m", "services.models"]
CMD ["pull"]
RUN ["python", "-m", "services.models", "list"]
