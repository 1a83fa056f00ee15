# `bareclip serve`, slim and not as root:
#   docker build -t bareclip . && docker run -p 8000:8000 -v ./clip-b32:/bundle:ro \
#       -e BARECLIP_API_KEYS=secret bareclip
# The bundle is read by user 10001: chmod -R a+rX clip-b32.
# To bake the bundle in: FROM bareclip, then COPY clip-b32 /bundle.
FROM python:3.13-slim AS build
COPY . /source
RUN python -m venv /opt/bareclip && /opt/bareclip/bin/pip install --no-cache-dir '/source[cpu,serve]'

FROM python:3.13-slim
COPY --from=build /opt/bareclip /opt/bareclip
RUN useradd --create-home --uid 10001 bareclip
USER bareclip
WORKDIR /home/bareclip
ENV PATH=/opt/bareclip/bin:$PATH PYTHONDONTWRITEBYTECODE=1
EXPOSE 8000
# Not urllib, which asks the proxy that Docker hands on to containers.
HEALTHCHECK CMD ["python", "-c", "from http.client import HTTPConnection; service = HTTPConnection('localhost', 8000); service.request('GET', '/ready'); raise SystemExit(service.getresponse().status != 200)"]
ENTRYPOINT ["bareclip", "serve", "--host", "0.0.0.0", "--port", "8000", "--bundle", "/bundle"]
