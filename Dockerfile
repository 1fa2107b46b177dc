# docker build -t pgsluice .
# docker run -p 6432:6432 -v ./pgsluice:/etc/pgsluice:ro pgsluice
# /etc/pgsluice holds pgsluice.ini (with listen_addr = *) and its auth_file, readable for uid 10432. Logs go to stderr.
FROM debian:12-slim AS build
WORKDIR /src
# The packages first: their layer is kept while only the source changes.
COPY scripts/install-deps scripts/
RUN scripts/install-deps --build
COPY . .
RUN scripts/build release --target pgsluice \
    && DESTDIR=/stage cmake --install build/release --prefix /usr --strip

FROM debian:12-slim
COPY scripts/install-deps scripts/healthcheck /usr/local/lib/pgsluice/
RUN /usr/local/lib/pgsluice/install-deps --runtime \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --system --uid 10432 --no-create-home --shell /usr/sbin/nologin pgsluice
COPY --from=build /stage/usr /usr
USER pgsluice
EXPOSE 6432
# "No new clients, finish what runs": docker stop then waits up to its --time.
STOPSIGNAL SIGINT
HEALTHCHECK --interval=10s --timeout=6s --start-period=5s CMD ["/usr/local/lib/pgsluice/healthcheck"]
ENTRYPOINT ["/usr/bin/pgsluice"]
CMD ["/etc/pgsluice/pgsluice.ini"]
