FROM python:3.11-slim-bookworm
# git and make for the pipeline; Chromium and ip for the tests that skip without them. Debian keeps no old versions to pin.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install -y --no-install-recommends chromium git iproute2 make \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /robacc
COPY . .
# Sets up the environment. The downloads stay on the machine that builds, for the next time.
RUN --mount=type=cache,target=/root/.cache/pip make check
CMD ["make", "repro"]
