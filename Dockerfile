# The base install with the server; no PyTorch. Built by hand:
#   docker build -t resnets-serve .
#   docker run --read-only -p 127.0.0.1:8000:8000 -v "$PWD/photos.onnx:/models/photos.onnx:ro" resnets-serve /models/photos.onnx
FROM python:3.12-slim AS build
WORKDIR /source
COPY pyproject.toml README.md LICENSE ./
COPY src src
RUN pip install --no-cache-dir --prefix /install ".[serve]"

FROM python:3.12-slim
COPY --from=build /install /usr/local
RUN useradd --no-create-home --uid 10001 resnets
USER 10001
ENV PYTHONDONTWRITEBYTECODE=1 ORT_DISABLE_TELEMETRY=1
EXPOSE 8000
# in the container all interfaces; what reaches it is decided by -p
ENTRYPOINT ["resnets", "serve", "--host", "0.0.0.0"]
