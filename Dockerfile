FROM python:3.11-slim-bookworm
# git and make for the pipeline; Chromium and ip for the tests that skip without them.
RUN apt-get update \
    && apt-get install -y --no-install-recommends chromium git iproute2 make \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /robacc
# First what the environment is made from, so that an edit of anything else keeps it.
COPY Makefile requirements.lock ./
RUN make .venv/ready
COPY . .
CMD ["make", "repro"]
