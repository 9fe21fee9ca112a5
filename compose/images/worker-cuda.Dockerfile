# The program `fanfold-worker` with a Python and the libraries of CUDA, for entry scripts that use GPUs. The driver comes from the host,
# through the NVIDIA container toolkit.
#   docker build -f compose/images/worker-cuda.Dockerfile -t fanfold-worker-cuda .
ARG RUST_IMAGE=rust:1.95-bookworm
# Its glibc must be at least that of the Rust image (Debian 12: 2.36; Ubuntu 24.04: 2.39).
ARG RUNTIME_IMAGE=nvidia/cuda:12.6.3-runtime-ubuntu24.04

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

FROM ${RUNTIME_IMAGE}
LABEL org.opencontainers.image.title="fanfold worker for GPUs" \
      org.opencontainers.image.description="Runs entry scripts over millions of items on your own machines: a worker with CUDA" \
      org.opencontainers.image.licenses="Apache-2.0"
ARG UID=10001
ARG GID=10001
RUN apt-get update \
    && apt-get install -y --no-install-recommends ca-certificates libgomp1 python3 python3-venv tzdata \
    && rm -rf /var/lib/apt/lists/* \
    && { getent group "$GID" || groupadd --gid "$GID" fanfold; } \
    && { getent passwd "$UID" || useradd --uid "$UID" --gid "$GID" --home-dir /tmp --no-create-home --shell /usr/sbin/nologin fanfold; } \
    && install -d -o "$UID" -g "$GID" /shared /cache
COPY --from=build /programs/fanfold-worker /usr/local/bin/
ENV HOME=/tmp XDG_CACHE_HOME=/cache \
    NVIDIA_VISIBLE_DEVICES=all NVIDIA_DRIVER_CAPABILITIES=compute,utility
USER $UID:$GID
WORKDIR /shared
EXPOSE 9108
STOPSIGNAL SIGTERM
ENTRYPOINT ["fanfold-worker"]
CMD ["--help"]
