# The program `fanfold`: the coordinator as a service, and the command line.
#   docker build -f compose/images/coordinator.Dockerfile -t fanfold-coordinator .
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

FROM ${RUNTIME_IMAGE}
LABEL org.opencontainers.image.title="fanfold coordinator" \
      org.opencontainers.image.description="Runs entry scripts over millions of items on your own machines: the coordinator" \
      org.opencontainers.image.licenses="Apache-2.0"
ARG UID=10001
ARG GID=10001
# /shared and /state belong to the user: a new volume takes its owner from the image.
RUN apt-get update \
    && apt-get install -y --no-install-recommends ca-certificates tzdata \
    && rm -rf /var/lib/apt/lists/* \
    && { getent group "$GID" || groupadd --gid "$GID" fanfold; } \
    && { getent passwd "$UID" || useradd --uid "$UID" --gid "$GID" --home-dir /state --no-create-home --shell /usr/sbin/nologin fanfold; } \
    && install -d -o "$UID" -g "$GID" /shared /state
COPY --from=build /programs/fanfold /usr/local/bin/
COPY compose/images/check-health /usr/local/bin/
ENV HOME=/state XDG_STATE_HOME=/state
USER $UID:$GID
WORKDIR /shared
EXPOSE 7070
STOPSIGNAL SIGTERM
ENTRYPOINT ["fanfold"]
CMD ["--help"]
