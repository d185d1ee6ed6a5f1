# The mock server as an image: docker build -t seedbed . && docker run --rm -p 127.0.0.1:8721:8721 seedbed
#
# Any image with Python 3.11 or later serves as the base; .ci/container builds one where no registry is reachable.
ARG PYTHON_IMAGE=docker.io/library/python:3.13-slim

FROM ${PYTHON_IMAGE} AS build
# Path of the certificates that pip trusts, for a network whose proxy has its own.
ARG PIP_CERT
WORKDIR /src
RUN python3 -m venv /opt/seedbed
COPY pyproject.toml README.md LICENSE ./
COPY .ci/build_hook.py .ci/build_hook.py
COPY docs docs
COPY schemas/seedbed_schemas schemas/seedbed_schemas
COPY mock_server/seedbed_mock mock_server/seedbed_mock
COPY client/seedbed_client client/seedbed_client
COPY contract_tests/seedbed_contract contract_tests/seedbed_contract
RUN /opt/seedbed/bin/pip install --no-cache-dir --disable-pip-version-check '.[redis]'
# Compiled now, since the user of the server may not write beside the modules.
RUN /opt/seedbed/bin/python -m compileall -q /opt/seedbed/lib

FROM ${PYTHON_IMAGE}
LABEL org.opencontainers.image.title="Seedbed" \
      org.opencontainers.image.description="A local test bed for the Seedream 4.5 text-to-image job API" \
      org.opencontainers.image.licenses="MIT"
# A number, so that Kubernetes can see that it is not root.
RUN echo 'seedbed:x:10001:10001::/data:/usr/sbin/nologin' >> /etc/passwd \
 && echo 'seedbed:x:10001:' >> /etc/group \
 && mkdir /data && chown 10001:10001 /data
COPY --from=build /opt/seedbed /opt/seedbed
ENV PATH=/opt/seedbed/bin:$PATH \
    HOME=/data \
    PYTHONUNBUFFERED=1 \
    SEEDBED_SERVE_HOST=0.0.0.0 \
    SEEDBED_SERVE_READY_FILE=/tmp/seedbed-ready.json \
    SEEDBED_HEALTH_READY_FILE=/tmp/seedbed-ready.json
USER 10001:10001
WORKDIR /data
EXPOSE 8721
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=5s --timeout=6s --start-period=15s --retries=3 CMD ["seedbed", "health"]
ENTRYPOINT ["seedbed"]
CMD ["serve"]
