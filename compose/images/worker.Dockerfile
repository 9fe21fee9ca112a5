# The program `fanfold-worker` with a Python, for entry scripts that need no GPU. Packages come from each job's environment; for others, and
# for system libraries, build an image of your own on this one:
#   FROM fanfold-worker
#   USER root
#   RUN apt-get update && apt-get install -y --no-install-recommends libgl1
#   USER 10001:10001
#
#   docker build -f compose/images/worker.Dockerfile --target worker -t fanfold-worker .
ARG RUST_IMAGE=rust:1.95-bookworm
ARG RUNTIME_IMAGE=debian:bookworm-slim

# The stages up to `build` are the same in each Dockerfile here, so that all images share one build.
FROM ${RUST_IMAGE} AS manifests
WORKDIR /build
COPY . .
RUN sh compose/images/manifests.sh /manifests

FROM ${RUST_IMAGE} AS build
WORKDIR /build
COPY --from=manifests /manifests .
# What fanfold depends on; built again only when a manifest or the lock file changes.
RUN cargo build --release --locked --package fanfold --package fanfold-worker
COPY . .
# The stand-ins for our own crates are newer than the files just copied: cargo would keep them.
RUN rm -rf target/release/.fingerprint/fanfold* \
    && cargo build --release --locked --package fanfold --package fanfold-worker \
    && install -D --strip target/release/fanfold target/release/fanfold-worker --target-directory /programs

FROM ${RUNTIME_IMAGE} AS worker
LABEL org.opencontainers.image.title="fanfold worker" \
      org.opencontainers.image.description="Runs entry scripts over millions of items on your own machines: a worker" \
      org.opencontainers.image.licenses="Apache-2.0"
ARG UID=10001
ARG GID=10001
# libgomp1: scikit-learn, LightGBM and others load it. /shared and /cache belong to the user: a new volume takes its owner from the image.
RUN apt-get update \
    && apt-get install -y --no-install-recommends ca-certificates libgomp1 python3 python3-venv tzdata \
    && rm -rf /var/lib/apt/lists/* \
    && { getent group "$GID" || groupadd --gid "$GID" fanfold; } \
    && { getent passwd "$UID" || useradd --uid "$UID" --gid "$GID" --home-dir /tmp --no-create-home --shell /usr/sbin/nologin fanfold; } \
    && install -d -o "$UID" -g "$GID" /shared /cache
COPY --from=build /programs/fanfold-worker /usr/local/bin/
# Environments are built under /cache; what libraries write at home (caches of models and fonts) goes with the container.
ENV HOME=/tmp XDG_CACHE_HOME=/cache
USER $UID:$GID
WORKDIR /shared
EXPOSE 9108
STOPSIGNAL SIGTERM
ENTRYPOINT ["fanfold-worker"]
CMD ["--help"]

# The worker's Python beside the command line: for scripts that submit a job and look at what came out.
FROM worker AS client
LABEL org.opencontainers.image.title="fanfold client"
COPY --from=build /programs/fanfold /usr/local/bin/
ENTRYPOINT ["fanfold"]
